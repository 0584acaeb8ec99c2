// Loaded before a process's own code: at SIGUSR2 its clock is turned by a day, back and forth. The clock that only rises stays as it is.
const real = Date.now.bind(Date);
const DAY_MS = 24 * 3600 * 1000;
let turned = 0;
process.on('SIGUSR2', () => {
  turned = turned === 0 ? -DAY_MS : DAY_MS;
});
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) {
    if (given.length === 0) super(real() + turned);
    else super(...given);
  }
  static now() {
    return real() + turned;
  }
};
