/** Operators that work on each element by itself, with broadcasting. */
import type { Node } from '../graph/graph.js';
import { each, join } from './registry.js';
import { shapeOf } from './rule.js';
import { broadcastFactors, numbered, rule, type Signature } from './signature.js';

const pointwise = (node: Node): Signature => {
  const output = shapeOf(node.outputs[0]);
  const factors = numbered('d', output.length);
  return {
    inputs: node.inputs.map((input) => broadcastFactors(shapeOf(input), output, factors)),
    outputs: node.outputs.map(() => factors),
  };
};

const allInputs = (node: Node) => [node.inputs.map((_, i) => i)];
const firstInput = () => [[0]];
const withoutMask = (node: Node) => (node.outputs[1] ? [] : [[0]]);
const noFlops = () => 0;

const isFloat = (node: Node) => [node.inputs[0], node.outputs[0]].every((value) => value?.dtype.includes('float'));

// biome-ignore format: a list reads better dense
const NONLINEAR = [
  'Abs', 'And', 'Atan', 'BitShift', 'Ceil', 'Celu', 'Clip', 'Cos', 'Elu', 'Equal', 'Erf', 'Exp', 'Floor', 'Gelu', 'Greater',
  'GreaterOrEqual', 'HardSigmoid', 'HardSwish', 'IsInf', 'IsNaN', 'LeakyRelu', 'Less', 'LessOrEqual', 'Log', 'Max', 'Min',
  'Mish', 'Mod', 'Not', 'Or', 'PRelu', 'Pow', 'Reciprocal', 'Relu', 'Round', 'Selu', 'Shrink', 'Sigmoid', 'Sign', 'Sin', 'Softplus',
  'Softsign', 'Sqrt', 'Swish', 'Tan', 'Tanh', 'ThresholdedRelu', 'Xor', 'com.microsoft::BiasGelu',
  'com.microsoft::FastGelu', 'com.microsoft::Gelu', 'com.microsoft::QuickGelu',
] as const;

export const ELEMENTWISE = join(each(NONLINEAR, rule({ signature: pointwise })), {
  Add: rule({ signature: pointwise, linear: allInputs }),
  Sub: rule({ signature: pointwise, linear: allInputs }),
  Sum: rule({ signature: pointwise, linear: allInputs }),
  Mul: rule({ signature: pointwise, linear: () => [[0], [1]] }),
  Div: rule({ signature: pointwise, linear: firstInput }),
  Neg: rule({ signature: pointwise, linear: firstInput }),
  Identity: rule({ cost: 'view', signature: pointwise, linear: firstInput, flops: noFlops }),
  Dropout: rule({ cost: 'view', signature: pointwise, linear: withoutMask, flops: noFlops }),
  Where: rule({ signature: pointwise, linear: () => [[1, 2]] }),
  Cast: rule({ signature: pointwise, linear: (node) => (isFloat(node) ? [[0]] : []), flops: noFlops }),
  CastLike: rule({ signature: pointwise, flops: noFlops }),
});
