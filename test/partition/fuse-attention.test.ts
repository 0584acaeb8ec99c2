import { describeFusion } from './attention-fusion.js';

describeFusion('tiny-ts17-sym');
