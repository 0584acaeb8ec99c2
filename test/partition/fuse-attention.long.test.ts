import { describeFusion } from './attention-fusion.js';

describeFusion('tiny-ts14-sym', 'tiny-dynamo18-sym');
