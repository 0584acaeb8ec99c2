/**
 * Every operator that the planner can meet: ONNX's own up to opset 23, and what ONNX Runtime's transformer and quantization
 * tools write beside them. The registry has an entry for each, or the compiler refuses it.
 */

// biome-ignore format: a list reads better dense
const ONNX = [
  'Abs', 'Acos', 'Acosh', 'Add', 'AffineGrid', 'And', 'ArgMax', 'ArgMin', 'Asin', 'Asinh', 'Atan', 'Atanh',
  'Attention', 'AveragePool', 'BatchNormalization', 'Bernoulli', 'BitShift', 'BitwiseAnd', 'BitwiseNot', 'BitwiseOr',
  'BitwiseXor', 'BlackmanWindow', 'Cast', 'CastLike', 'Ceil', 'Celu', 'CenterCropPad', 'Clip', 'Col2Im', 'Compress',
  'Concat', 'ConcatFromSequence', 'Constant', 'ConstantOfShape', 'Conv', 'ConvInteger', 'ConvTranspose', 'Cos',
  'Cosh', 'CumSum', 'DFT', 'DeformConv', 'DepthToSpace', 'DequantizeLinear', 'Det', 'Div', 'Dropout',
  'DynamicQuantizeLinear', 'Einsum', 'Elu', 'Equal', 'Erf', 'Exp', 'Expand', 'EyeLike', 'Flatten', 'Floor', 'GRU',
  'Gather', 'GatherElements', 'GatherND', 'Gelu', 'Gemm', 'GlobalAveragePool', 'GlobalLpPool', 'GlobalMaxPool',
  'Greater', 'GreaterOrEqual', 'GridSample', 'GroupNormalization', 'HammingWindow', 'HannWindow', 'HardSigmoid',
  'HardSwish', 'Hardmax', 'Identity', 'If', 'ImageDecoder', 'InstanceNormalization', 'IsInf', 'IsNaN', 'LRN', 'LSTM',
  'LayerNormalization', 'LeakyRelu', 'Less', 'LessOrEqual', 'Log', 'LogSoftmax', 'Loop', 'LpNormalization', 'LpPool',
  'MatMul', 'MatMulInteger', 'Max', 'MaxPool', 'MaxRoiPool', 'MaxUnpool', 'Mean', 'MeanVarianceNormalization',
  'MelWeightMatrix', 'Min', 'Mish', 'Mod', 'Mul', 'Multinomial', 'Neg', 'NegativeLogLikelihoodLoss',
  'NonMaxSuppression', 'NonZero', 'Not', 'OneHot', 'Optional', 'OptionalGetElement', 'OptionalHasElement', 'Or',
  'PRelu', 'Pad', 'Pow', 'QLinearConv', 'QLinearMatMul', 'QuantizeLinear', 'RMSNormalization', 'RNN', 'RandomNormal',
  'RandomNormalLike', 'RandomUniform', 'RandomUniformLike', 'Range', 'Reciprocal', 'ReduceL1', 'ReduceL2',
  'ReduceLogSum', 'ReduceLogSumExp', 'ReduceMax', 'ReduceMean', 'ReduceMin', 'ReduceProd', 'ReduceSum',
  'ReduceSumSquare', 'RegexFullMatch', 'Relu', 'Reshape', 'Resize', 'ReverseSequence', 'RoiAlign', 'RotaryEmbedding',
  'Round', 'STFT', 'Scan', 'Scatter', 'ScatterElements', 'ScatterND', 'Selu', 'SequenceAt', 'SequenceConstruct',
  'SequenceEmpty', 'SequenceErase', 'SequenceInsert', 'SequenceLength', 'SequenceMap', 'Shape', 'Shrink', 'Sigmoid',
  'Sign', 'SimplifiedLayerNormalization', 'Sin', 'Sinh', 'Size', 'Slice', 'Softmax', 'SoftmaxCrossEntropyLoss',
  'Softplus', 'Softsign', 'SpaceToDepth', 'Split', 'SplitToSequence', 'Sqrt', 'Squeeze', 'StringConcat',
  'StringNormalizer', 'StringSplit', 'Sub', 'Sum', 'Swish', 'Tan', 'Tanh', 'TfIdfVectorizer', 'ThresholdedRelu',
  'Tile', 'TopK', 'Transpose', 'Trilu', 'Unique', 'Unsqueeze', 'Upsample', 'Where', 'Xor',
] as const;

// biome-ignore format: a list reads better dense
const CONTRIB = [
  'Attention', 'BiasAdd', 'BiasDropout', 'BiasGelu', 'BiasSoftmax', 'BiasSplitGelu',
  'DecoderMaskedMultiHeadAttention', 'DynamicQuantizeMatMul', 'EmbedLayerNormalization', 'FastGelu', 'FusedConv',
  'FusedGemm', 'FusedMatMul', 'GatedRelativePositionBias', 'Gelu', 'GemmFastGelu', 'GroupNorm', 'GroupQueryAttention',
  'LongformerAttention', 'MatMulBnb4', 'MatMulFpQ4', 'MatMulIntegerToFloat', 'MatMulNBits', 'MoE',
  'MultiHeadAttention', 'NhwcConv', 'NhwcFusedConv', 'PackedAttention', 'PackedMultiHeadAttention', 'PagedAttention', 'QAttention',
  'QGemm', 'QLinearAdd', 'QLinearAveragePool', 'QLinearConcat', 'QLinearConv', 'QLinearGlobalAveragePool',
  'QLinearLeakyRelu', 'QLinearMul', 'QLinearSigmoid', 'QLinearSoftmax', 'QLinearWhere', 'QMoE', 'QOrderedAttention',
  'QOrderedGelu', 'QOrderedLayerNormalization', 'QOrderedMatMul', 'QuickGelu',
  'RelativePositionBias', 'RotaryEmbedding', 'SkipGroupNorm', 'SkipLayerNormalization',
  'SkipSimplifiedLayerNormalization', 'SparseAttention', 'TransposeMatMul',
] as const;

export type OperatorName = (typeof ONNX)[number] | `com.microsoft::${(typeof CONTRIB)[number]}`;
