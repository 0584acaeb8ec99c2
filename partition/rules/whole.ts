/** Operators that every rank runs whole, each with the reason and with what would help. */
import type { OperatorName } from './names.js';
import { each, join } from './registry.js';
import type { Whole } from './rule.js';

const whole =
  (reason: string, facts: Partial<Omit<Whole, 'whole'>> = {}) =>
  <Name extends OperatorName>(...names: readonly Name[]) =>
    each(names, { cost: 'elementwise', ...facts, whole: reason });

const folded = whole('what it gives depends on sizes alone, so folding takes most of it away; what is left is tiny');
const branching = whole(
  'the model decides at run time what it computes; export it with fixed sizes, so that loops are unrolled',
);
const valued = whole(
  'it makes or reads sequences, optional values or strings, which no exporter writes for a denoiser',
);
const sized = whole('its size depends on data; export the model with masks instead of selections');
const random = whole('each rank would draw other numbers; give the noise as an input', { isRandom: true });
const recurrent = whole('each step needs the whole state of the step before');
const training = whole('it belongs to training');
const signal = whole('it mixes a whole signal or picture; leave it outside of the model');
const rare = whole('no denoiser has it; a rule is one entry beside its like');
const moves = whole('what it moves depends on indices that only the run knows', { cost: 'move' });
const quantised = whole(
  'its weights are integers already; give the model unquantized, and let Tandem make int8 of it',
  {
    cost: 'quantised',
  },
);
const fusedNorm = whole('it is taken apart before planning where its form allows; export the model without fusing it', {
  cost: 'norm',
});
const fusedAttention = whole('this form of attention could not be taken apart; export the model without fusing it', {
  cost: 'attention',
});
const fused = whole('it is taken apart before planning where its form allows; export the model without fusing it');

const OWN = join(
  join(
    join(
      folded('Constant', 'ConstantOfShape', 'EyeLike', 'Range', 'Shape', 'Size'),
      join(branching('If', 'Loop', 'Scan', 'SequenceMap'), sized('Compress', 'NonMaxSuppression', 'NonZero', 'Unique')),
    ),
    // biome-ignore format: a list reads better dense
    valued(
      'ConcatFromSequence', 'ImageDecoder', 'Optional', 'OptionalGetElement', 'OptionalHasElement', 'RegexFullMatch', 'SequenceAt',
      'SequenceConstruct', 'SequenceEmpty', 'SequenceErase', 'SequenceInsert', 'SequenceLength', 'SplitToSequence', 'StringConcat',
      'StringNormalizer', 'StringSplit', 'TfIdfVectorizer',
    ),
  ),
  join(
    join(
      random('Bernoulli', 'Multinomial', 'RandomNormal', 'RandomNormalLike', 'RandomUniform', 'RandomUniformLike'),
      recurrent('GRU', 'LSTM', 'RNN'),
    ),
    join(
      training('NegativeLogLikelihoodLoss', 'SoftmaxCrossEntropyLoss'),
      signal('BlackmanWindow', 'Col2Im', 'DFT', 'DeformConv', 'HammingWindow', 'HannWindow', 'MelWeightMatrix', 'STFT'),
    ),
  ),
);

const PLANNED = join(
  join(
    // biome-ignore format: a list reads better dense
    rare(
      'AffineGrid', 'CenterCropPad', 'Det', 'GlobalLpPool', 'Hardmax', 'LRN', 'MaxRoiPool', 'MaxUnpool',
      'MeanVarianceNormalization', 'OneHot', 'ReverseSequence', 'RoiAlign',
    ),
    moves('GatherElements', 'GatherND', 'Scatter', 'ScatterElements', 'ScatterND'),
  ),
  quantised(
    'ConvInteger',
    'DequantizeLinear',
    'DynamicQuantizeLinear',
    'MatMulInteger',
    'QLinearConv',
    'QLinearMatMul',
    'QuantizeLinear',
  ),
);

const CONTRIB = join(
  join(
    fusedNorm(
      'com.microsoft::GroupNorm',
      'com.microsoft::SkipGroupNorm',
      'com.microsoft::SkipLayerNormalization',
      'com.microsoft::SkipSimplifiedLayerNormalization',
    ),
    fusedAttention(
      'com.microsoft::Attention',
      'com.microsoft::DecoderMaskedMultiHeadAttention',
      'com.microsoft::GroupQueryAttention',
      'com.microsoft::LongformerAttention',
      'com.microsoft::PackedAttention',
      'com.microsoft::PackedMultiHeadAttention',
      'com.microsoft::PagedAttention',
      'com.microsoft::QAttention',
      'com.microsoft::SparseAttention',
    ),
  ),
  join(
    fused(
      'com.microsoft::BiasAdd',
      'com.microsoft::BiasDropout',
      'com.microsoft::BiasSoftmax',
      'com.microsoft::BiasSplitGelu',
      'com.microsoft::EmbedLayerNormalization',
      'com.microsoft::FusedConv',
      'com.microsoft::FusedGemm',
      'com.microsoft::GatedRelativePositionBias',
      'com.microsoft::GemmFastGelu',
      'com.microsoft::MoE',
      'com.microsoft::NhwcConv',
      'com.microsoft::NhwcFusedConv',
      'com.microsoft::RelativePositionBias',
      'com.microsoft::RotaryEmbedding',
      'com.microsoft::TransposeMatMul',
    ),
    quantised(
      'com.microsoft::DynamicQuantizeMatMul',
      'com.microsoft::MatMulBnb4',
      'com.microsoft::MatMulFpQ4',
      'com.microsoft::MatMulIntegerToFloat',
      'com.microsoft::MatMulNBits',
      'com.microsoft::QGemm',
      'com.microsoft::QLinearAdd',
      'com.microsoft::QLinearAveragePool',
      'com.microsoft::QLinearConcat',
      'com.microsoft::QLinearConv',
      'com.microsoft::QLinearGlobalAveragePool',
      'com.microsoft::QLinearLeakyRelu',
      'com.microsoft::QLinearMul',
      'com.microsoft::QLinearSigmoid',
      'com.microsoft::QLinearSoftmax',
      'com.microsoft::QLinearWhere',
      'com.microsoft::QMoE',
      'com.microsoft::QOrderedAttention',
      'com.microsoft::QOrderedGelu',
      'com.microsoft::QOrderedLayerNormalization',
      'com.microsoft::QOrderedMatMul',
    ),
  ),
);

export const WHOLE = join(join(OWN, PLANNED), CONTRIB);
