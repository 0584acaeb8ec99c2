/** A driver in software for WebGPU: SwiftShader, as Debian's chromium brings it. */
import { existsSync } from 'node:fs';

const DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const NEEDED = `Debian's packages chromium and libvulkan1 bring one, at ${DRIVER}`;

/** Makes it the driver of this process and of those that it starts, where none was chosen. @returns whether there is one */
export const useSoftwareDriver = (): boolean => {
  if (process.env.VK_DRIVER_FILES) return true;
  if (!existsSync(DRIVER)) return false;
  process.env.VK_DRIVER_FILES = process.env.VK_ICD_FILENAMES = DRIVER;
  return true;
};

/** As `useSoftwareDriver`; says so where there is none, and what the tests are that it costs. */
export const hasDriver = (tests: string): boolean => {
  const isHere = useSoftwareDriver();
  if (!isHere) console.info(`No ${tests}: they need a driver in software; ${NEEDED}.`);
  return isHere;
};
