"""Writes `test/fixtures/goldens/`: what PyTorch's diffusers paints with the trained model, one picture a scheduler.

    python models/export/make_goldens.py --work FOLDER

FOLDER is the one that the training scripts wrote. The model predicts a velocity under a schedule that ends in pure noise,
so that the flow-match golden is a picture of nothing: it holds the arithmetic only.

Each golden is painted twice, by PyTorch and by PyTorch's pipeline around ONNX Runtime with the files of
`models/emoji-sd/`; the second proves that the goldens belong to those files, and tells how far rounding alone moves a picture.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models" / "train"))
from clip_tokenizer import write_json  # noqa: E402
from parts import SCHEDULE  # noqa: E402
from trained import load_pipeline  # noqa: E402

MODEL = ROOT / "models" / "emoji-sd"
GOLDENS = ROOT / "test" / "fixtures" / "goldens"
HEIGHT = WIDTH = 64
LATENTS = (1, 4, HEIGHT // 4, WIDTH // 4)


class LatentFlowMatch(FlowMatchEulerDiscreteScheduler):
    """Gives the flow-match scheduler the two things that the Stable Diffusion pipeline asks of a scheduler."""

    init_noise_sigma = 1.0

    def scale_model_input(self, sample, timestep):
        return sample


# What solvers other than DDIM share of the model's schedule.
SHARED = {key: value for key, value in SCHEDULE.items() if key not in ("clip_sample", "set_alpha_to_one")}
LCM = SHARED | dict(set_alpha_to_one=True, original_inference_steps=50)


@dataclass(frozen=True)
class Golden:
    name: str
    scheduler: object
    steps: int = 8
    guidance_scale: float = 3.0
    seed: int = 42
    prompt: str = "a picture of a red apple"
    negative_prompt: str = "green"
    config: dict = field(default_factory=dict)


GOLDENS_WANTED = (
    Golden("ddim", DDIMScheduler, config=SCHEDULE),
    Golden("ddim-guidance-1", DDIMScheduler, guidance_scale=1.0, config=SCHEDULE),
    Golden("euler", EulerDiscreteScheduler, config=SHARED),
    Golden("dpm-multistep", DPMSolverMultistepScheduler, config=SHARED | dict(algorithm_type="dpmsolver++")),
    Golden("lcm", LCMScheduler, steps=4, guidance_scale=1.5, config=LCM),
    Golden("flow-match-euler", LatentFlowMatch, config=dict(num_train_timesteps=1000, shift=3.0)),
)


def onnx_session(part):
    return onnxruntime.InferenceSession(MODEL / part / "model.onnx", providers=["CPUExecutionProvider"])


def run_onnx(session, **inputs):
    outputs = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return tuple(torch.from_numpy(output) for output in outputs)


def put_onnx_in(pipeline):
    """Lets the shipped files do the work of the pipeline's parts."""
    text_encoder, unet, vae_decoder = (onnx_session(part) for part in ("text_encoder", "unet", "vae_decoder"))
    pipeline.text_encoder.forward = lambda input_ids, **_: run_onnx(text_encoder, input_ids=input_ids)
    pipeline.unet.forward = lambda sample, timestep, encoder_hidden_states, **_: run_onnx(
        unet, sample=sample, timestep=timestep.float(), encoder_hidden_states=encoder_hidden_states
    )
    pipeline.vae.decode = lambda latents, **_: run_onnx(vae_decoder, latent_sample=latents)
    return pipeline


@torch.no_grad()
def paint(pipeline, golden):
    """The final latents, and the picture as [height, width, 3] of 0 to 255."""
    pipeline.scheduler = golden.scheduler(**golden.config)
    latents = pipeline(
        golden.prompt,
        negative_prompt=golden.negative_prompt,
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=golden.steps,
        guidance_scale=golden.guidance_scale,
        generator=torch.Generator().manual_seed(golden.seed),
        output_type="latent",
    ).images
    picture = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    return latents, np.asarray(pipeline.image_processor.postprocess(picture, output_type="pil")[0])


def write_values(name, values):
    """Raw little-endian float32; returns what the JSON says of the file."""
    (GOLDENS / name).write_bytes(values.contiguous().numpy().astype("<f4").tobytes())
    return {"file": name, "dtype": "float32", "shape": list(values.shape)}


def write_noise(golden):
    """What the seed's generator gives: the initial latents, then a noise for every step of LCM but the last."""
    generator = torch.Generator().manual_seed(golden.seed)
    written = {"initial_latents": write_values(f"{golden.name}.initial.bin", torch.randn(LATENTS, generator=generator))}
    if golden.scheduler is LCMScheduler:
        noise = torch.stack([torch.randn(LATENTS, generator=generator) for _ in range(golden.steps - 1)])
        written["step_noise"] = write_values(f"{golden.name}.noise.bin", noise)
    return written


def scheduler_config(golden):
    scheduler = golden.scheduler(**golden.config)
    name = golden.scheduler.__mro__[1].__name__ if golden.scheduler is LatentFlowMatch else golden.scheduler.__name__
    hidden = ("_class_name", "_use_default_values")
    # JSON has no infinity; the one entry that is infinite means "no limit", as leaving it out does.
    config = {key: value for key, value in scheduler.config.items() if value != -float("inf")}
    return {"_class_name": name} | {key: value for key, value in config.items() if key not in hidden}


def make(golden, pipeline, onnx_pipeline):
    latents, picture = paint(pipeline, golden)
    onnx_latents, onnx_picture = paint(onnx_pipeline, golden)
    pixels = np.abs(picture.astype(int) - onnx_picture.astype(int))
    difference = {
        "latents_relative": float((latents - onnx_latents).abs().max() / latents.std()),
        "pixels_max": int(pixels.max()),
        "pixels_mean": round(float(pixels.mean()), 5),
    }
    print(f"{golden.name}: latents spread {latents.std():.2f}, picture spread {picture.std():.1f}, {difference}", flush=True)
    if not (difference["latents_relative"] < 1e-2 and difference["pixels_mean"] < 0.5):
        raise AssertionError(f"{golden.name}: models/emoji-sd paints another picture; run export_emoji_sd.py first")
    Image.fromarray(picture).save(GOLDENS / f"{golden.name}.png", optimize=True)
    write_json(
        GOLDENS / f"{golden.name}.json",
        {
            "scheduler": scheduler_config(golden),
            "prompt": golden.prompt,
            "negative_prompt": golden.negative_prompt,
            "seed": golden.seed,
            "num_inference_steps": golden.steps,
            "guidance_scale": golden.guidance_scale,
            "height": HEIGHT,
            "width": WIDTH,
            "timesteps": pipeline.scheduler.timesteps.tolist(),
            **write_noise(golden),
            "final_latents": write_values(f"{golden.name}.final.bin", latents),
            "picture": {"file": f"{golden.name}.png"},
            "onnxruntime_difference": difference,
        },
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True, type=Path)
    work = parser.parse_args().work
    warnings.filterwarnings("ignore")
    GOLDENS.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(work)
    onnx_pipeline = put_onnx_in(load_pipeline(work))
    for each in (pipeline, onnx_pipeline):
        each.set_progress_bar_config(disable=True)
    for golden in GOLDENS_WANTED:
        make(golden, pipeline, onnx_pipeline)


if __name__ == "__main__":
    main()
