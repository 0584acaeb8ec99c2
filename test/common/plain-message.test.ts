import { describe, expect, it } from 'vitest';
import { plainMessage } from '#tandem/common/plain-message.js';

const SOURCES = '/onnxruntime_src/onnxruntime/core/providers';

describe("ONNX Runtime's messages", () => {
  it.each([
    [
      `${SOURCES}/webgpu/webgpu_context.cc:136 onnxruntime::webgpu::WebGpuContext::Initialize(const onnxruntime::webgpu::WebGpuContextConfig&)::<lambda()> adapter_result.status == wgpu::RequestAdapterStatus::Success was false. Failed to get a WebGPU adapter: No supported adapters\n`,
      'Failed to get a WebGPU adapter: No supported adapters',
    ],
    [
      `Non-zero status code returned while running Add node. Name:'/a' Status Message: ${SOURCES}/cpu/math/element_wise_ops.h:540 void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 3 by 4`,
      "Non-zero status code returned while running Add node. Name:'/a' Status Message: Attempting to broadcast an axis by a dimension other than 1. 3 by 4",
    ],
    ['Load model from x.onnx failed: No such file', 'Load model from x.onnx failed: No such file'],
  ])('are told without the place in its sources: %#', (message, expected) => {
    expect(plainMessage(message)).toBe(expected);
  });
});
