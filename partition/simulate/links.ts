/** Links by name, for plans of machines that are not there. */
import { TandemError } from '../../common/errors.js';
import { LINKS, type LinkRates } from '../plan/rates.js';

/** A round over a switched network, in ms: two network cards, a switch, and the sockets at both ends. */
const NETWORK_MS = 0.3;
/** Of what a network is sold as, payload gets about this much. */
const PAYLOAD = 0.94;
/** PCIe 4.0 with 16 lanes: 32 GB/s each way, of which copies between devices get some three quarters. */
const PCIE: LinkRates = { latencyMs: 0.02, wireBytesPerMs: 24e6 };

const NAMED: Readonly<Record<string, LinkRates>> = { ...LINKS, pcie: PCIE };
const NETWORK = /^(\d+(?:\.\d+)?)gbit$/;

/** What the devices' rates say, such as what was measured between them. */
export const AS_RATED = 'as-rated';

export const LINK_NAMES = `${AS_RATED}, ${Object.keys(NAMED).join(', ')}, or a network such as 10gbit`;

/** @returns undefined where nothing is called so */
export const findLink = (name: string): LinkRates | undefined => {
  const gigabits = Number(NETWORK.exec(name)?.[1]);
  if (Number.isNaN(gigabits)) return NAMED[name];
  return gigabits > 0 ? { latencyMs: NETWORK_MS, wireBytesPerMs: (gigabits * 1e9 * PAYLOAD) / 8 / 1000 } : undefined;
};

/** @throws TandemError `LINK_UNKNOWN` */
export const requireLink = (name: string): LinkRates => {
  const link = findLink(name);
  if (link !== undefined) return link;
  throw new TandemError('LINK_UNKNOWN', `Expected a link (${LINK_NAMES}); found "${name}".`);
};
