"""Writes the small goldens of `test/fixtures/goldens/`: `schedulers.json`, `tokenizer.json` and `randn.json`.

    python models/export/make_numbers.py

A scheduler's trajectory is that of `step` on 8 values with a made-up noise prediction, so that no network is needed:
value i starts at cos(0.9 i) times init_noise_sigma, and at step k the network "predicts" sin(0.7 i + 0.3 k + 0.1),
both rounded to float32. Schedulers that draw noise are given cos(1.3 i + 0.5 k + 0.2) at step k.
"""

import json
from pathlib import Path
from unittest import mock

import diffusers
import numpy as np
import torch
from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "test" / "fixtures" / "goldens"
STEPS = (4, 10, 25)
INDEX = np.arange(8)

SCALED_LINEAR = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
SD15 = SCALED_LINEAR | dict(timestep_spacing="leading", steps_offset=1)
ZERO_SNR = SCALED_LINEAR | dict(timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True)

# (class, name, configuration, further arguments of set_timesteps); a callable is given the number of steps.
CASES = (
    ("DDIMScheduler", "sd15", SD15 | dict(clip_sample=False, set_alpha_to_one=False), {}),
    ("DDIMScheduler", "zero-snr-v-trailing", ZERO_SNR | dict(clip_sample=False), {}),
    ("DDIMScheduler", "sd21-v-leading",
     SD15 | dict(clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"), {}),
    ("DDIMScheduler", "defaults-clip-sample", {}, {}),
    ("DDIMScheduler", "linspace-sample",
     SCALED_LINEAR | dict(timestep_spacing="linspace", prediction_type="sample", clip_sample=False), {}),
    ("EulerDiscreteScheduler", "sdxl", SD15 | dict(interpolation_type="linear", use_karras_sigmas=False), {}),
    ("EulerDiscreteScheduler", "sdxl-karras", SD15 | dict(use_karras_sigmas=True), {}),
    ("EulerDiscreteScheduler", "trailing", SCALED_LINEAR | dict(timestep_spacing="trailing"), {}),
    ("EulerDiscreteScheduler", "linspace", SCALED_LINEAR | dict(timestep_spacing="linspace"), {}),
    ("EulerDiscreteScheduler", "v-leading", SD15 | dict(prediction_type="v_prediction"), {}),
    ("EulerDiscreteScheduler", "zero-snr-v-trailing", ZERO_SNR, {}),
    ("DPMSolverMultistepScheduler", "sd15-2m", SD15, {}),
    ("DPMSolverMultistepScheduler", "2m-karras", SD15 | dict(use_karras_sigmas=True), {}),
    ("DPMSolverMultistepScheduler", "linspace-2m", SCALED_LINEAR, {}),
    ("DPMSolverMultistepScheduler", "heun", SCALED_LINEAR | dict(solver_type="heun"), {}),
    ("DPMSolverMultistepScheduler", "first-order", SCALED_LINEAR | dict(solver_order=1), {}),
    ("DPMSolverMultistepScheduler", "third-order", SCALED_LINEAR | dict(solver_order=3), {}),
    ("DPMSolverMultistepScheduler", "sigma-min-no-lower-order",
     SCALED_LINEAR | dict(final_sigmas_type="sigma_min", lower_order_final=False), {}),
    ("DPMSolverMultistepScheduler", "euler-at-final", SCALED_LINEAR | dict(euler_at_final=True), {}),
    ("DPMSolverMultistepScheduler", "v-trailing",
     SCALED_LINEAR | dict(timestep_spacing="trailing", prediction_type="v_prediction"), {}),
    ("LCMScheduler", "sd15", SCALED_LINEAR | dict(original_inference_steps=50, set_alpha_to_one=True), {}),
    ("LCMScheduler", "sdxl", SD15 | dict(original_inference_steps=50, set_alpha_to_one=False), {}),
    ("LCMScheduler", "v-100-original-steps",
     SCALED_LINEAR | dict(original_inference_steps=100, prediction_type="v_prediction"), {}),
    ("FlowMatchEulerDiscreteScheduler", "sd3", dict(shift=3.0), {}),
    ("FlowMatchEulerDiscreteScheduler", "no-shift", dict(shift=1.0), {}),
    ("FlowMatchEulerDiscreteScheduler", "flux-dynamic",
     dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
     dict(mu=0.8, sigmas=lambda steps: np.linspace(1.0, 1 / steps, steps).tolist())),
    ("FlowMatchEulerDiscreteScheduler", "dynamic-linear",
     dict(use_dynamic_shifting=True, time_shift_type="linear"), dict(mu=1.5)),
    ("FlowMatchEulerDiscreteScheduler", "dynamic-terminal",
     dict(use_dynamic_shifting=True, shift_terminal=0.1), dict(mu=0.8)),
)

PROMPTS = (
    "",
    " ",
    "a red cat",
    "A RED Cat On The BEACH",
    "a castle at night, oil painting, highly detailed, 8k",
    "  leading,   inner \t and trailing\nspace  ",
    "don't, it's, we're, I'll, you'd, I've, I'm",
    "hello!!! what?! (wow) [ok] {fine} <tag> a/b\\c",
    "35mm film 2025 1,000.50 3x4",
    "café naïve façade Über straße",
    "cafe\u0301 with a combining accent",
    "東京の夜景、油絵",
    "Привет, мир",
    "مرحبا بالعالم",
    "a cat 🐱 and a family 👨‍👩‍👧 and a flag 🇨🇭",
    "ﬁligree ½ ² Ⅳ ™ ① ﷺ",
    "non\u00a0breaking\u2003wide\u200bzero-width\u00adsoft",
    "<|startoftext|> inside <|endoftext|> text",
    "snake_case and kebab-case and CamelCase and a.dotted.name@example.com",
    ", ".join(f"a {colour} lighthouse by the window" for colour in ("red", "green", "blue", "white", "black") * 4),
)


def plain(values):
    """float32 values by their shortest decimals; other numbers as they are."""
    array = np.asarray(values)
    return [float(str(value)) if array.dtype == np.float32 else value.item() for value in array.reshape(-1)]


def wave(function, phase):
    return torch.from_numpy(function(phase).astype(np.float32)).reshape(1, 2, 2, 2)


def resolve(arguments, steps):
    return {name: value(steps) if callable(value) else value for name, value in arguments.items()}


def trajectory(scheduler, timesteps):
    """Every sample after its step, and the network's scaled input before it where the scheduler scales it."""
    sample = wave(np.cos, 0.9 * INDEX) * torch.tensor(float(getattr(scheduler, "init_noise_sigma", 1.0)))
    samples, scaled, noises = [], [], []
    for index, timestep in enumerate(timesteps):
        scales = hasattr(scheduler, "scale_model_input")
        scaled.append(plain(scheduler.scale_model_input(sample, timestep) if scales else sample))
        noise = wave(np.cos, 1.3 * INDEX + 0.5 * index + 0.2)

        def draw(*_, noise=noise, **__):
            noises.append(index)
            return noise

        module = type(scheduler).__module__
        with mock.patch(f"{module}.randn_tensor", draw, create=True):
            sample = scheduler.step(wave(np.sin, 0.7 * INDEX + 0.3 * index + 0.1), timestep, sample, return_dict=False)[0]
        samples.append(plain(sample))
    return samples, scaled, noises


def run_case(class_name, config, arguments, steps):
    scheduler = getattr(diffusers, class_name)(**config)
    arguments = resolve(arguments, steps)
    # Custom sigmas say by themselves how many steps there are.
    scheduler.set_timesteps(**({} if "sigmas" in arguments else {"num_inference_steps": steps}), **arguments)
    samples, scaled, noises = trajectory(scheduler, scheduler.timesteps)
    run = {
        "num_inference_steps": steps,
        "arguments": arguments,
        "timesteps": plain(scheduler.timesteps),
        "init_noise_sigma": float(str(np.float32(getattr(scheduler, "init_noise_sigma", 1.0)))),
        "samples": samples,
    }
    if hasattr(scheduler, "sigmas"):
        run["sigmas"] = plain(scheduler.sigmas)
    if any(a != b for a, b in zip(scaled[1:], samples, strict=False)):
        run["scaled_inputs"] = scaled
    if noises:
        run["noise_at_steps"] = noises
    return run


def scheduler_goldens():
    cases = []
    for class_name, name, config, arguments in CASES:
        runs = [run_case(class_name, config, arguments, steps) for steps in STEPS]
        cases.append({"name": f"{class_name}: {name}", "config": {"_class_name": class_name} | config, "runs": runs})
        print(f"{cases[-1]['name']}: ends at {runs[0]['samples'][-1][:2]}", flush=True)
    return {
        "start": "sample[i] = float32(cos(0.9 i)) * init_noise_sigma",
        "model_output": "at step k: float32(sin(0.7 i + 0.3 k + 0.1))",
        "noise": "at step k, where noise_at_steps names it: float32(cos(1.3 i + 0.5 k + 0.2))",
        "cases": cases,
    }


def tokenizer_goldens():
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "models" / "emoji-sd" / "tokenizer")
    padding = dict(padding="max_length", truncation=True)
    return [{"prompt": prompt, "input_ids": tokenizer(prompt, **padding).input_ids} for prompt in PROMPTS]


def randn_goldens():
    """37 is neither below 16 nor a multiple of it: PyTorch draws each of the three another way."""
    goldens = []
    for seed in (0, 42, 123456789, 2**40):
        for count in (4, 15, 16, 37, 64, 16384):
            values = torch.randn(count, generator=torch.Generator().manual_seed(seed))
            goldens.append({"seed": seed, "count": count, "first": plain(values[:32]), "last": plain(values[-8:])})
    return goldens


def write(name, value):
    path = GOLDENS / name
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{name}: {path.stat().st_size} bytes")


def main():
    GOLDENS.mkdir(parents=True, exist_ok=True)
    write("schedulers.json", scheduler_goldens())
    write("tokenizer.json", tokenizer_goldens())
    write("randn.json", randn_goldens())


if __name__ == "__main__":
    main()
