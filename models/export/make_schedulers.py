"""Writes `test/fixtures/goldens/schedulers.json`: what diffusers' schedulers do, option by option.

    python models/export/make_schedulers.py

No network is needed: value i of 4 starts at cos(0.9 i) times init_noise_sigma, and at timestep t the network "predicts"
0.3 x_i + sin(0.7 i + 0.005 t + 0.1) of its scaled input x, in float32. The n-th noise that a scheduler draws is
cos(1.3 i + 0.5 n + 0.2). A run states the timesteps, the strength of the first noise, the first value of every
scaled input, the sample after every call and how often noise was drawn.
"""

import json
import warnings
from pathlib import Path
from unittest import mock

import diffusers
import numpy as np
import torch

GOLDENS = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "goldens"
INDEX = np.arange(4)

BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
SD15 = BETAS | dict(timestep_spacing="leading", steps_offset=1)
TRAILING = BETAS | dict(timestep_spacing="trailing")
ZERO_SNR = TRAILING | dict(prediction_type="v_prediction", rescale_betas_zero_snr=True)
V = dict(prediction_type="v_prediction")
SAMPLE = dict(prediction_type="sample")
KARRAS = dict(use_karras_sigmas=True)
EXPONENTIAL = dict(use_exponential_sigmas=True)
BETA = dict(use_beta_sigmas=True)
SIGMA_MIN = dict(final_sigmas_type="sigma_min")
THRESHOLD = dict(thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=1.2)
FLOW = dict(use_flow_sigmas=True, prediction_type="flow_prediction")
TRAINED = dict(trained_betas=[float(f"{beta:.5g}") for beta in np.linspace(0.01, 0.2, 20)], num_train_timesteps=20)

# Calls of a short image, of one that is long enough for DPM-Solver to keep its order at the end, and the numbers in between.
FULL = (4, 10, 16)
SHORT = (5,)
LONG = (5, 16)

DDIM = "DDIMScheduler"
DDPM = "DDPMScheduler"
PNDM = "PNDMScheduler"
EULER = "EulerDiscreteScheduler"
ANCESTRAL = "EulerAncestralDiscreteScheduler"
HEUN = "HeunDiscreteScheduler"
LMS = "LMSDiscreteScheduler"
KDPM2 = "KDPM2DiscreteScheduler"
KDPM2A = "KDPM2AncestralDiscreteScheduler"
SDE = "DPMSolverSDEScheduler"
MULTI = "DPMSolverMultistepScheduler"
SINGLE = "DPMSolverSinglestepScheduler"
DEIS = "DEISMultistepScheduler"
UNIPC = "UniPCMultistepScheduler"
LCM = "LCMScheduler"
TCD = "TCDScheduler"
FLOW_EULER = "FlowMatchEulerDiscreteScheduler"
FLOW_HEUN = "FlowMatchHeunDiscreteScheduler"
FLOW_LCM = "FlowMatchLCMScheduler"


def case(cls, name, config, steps=SHORT, *, arguments=None, source=None):
    """`arguments` go to set_timesteps; a callable is given the number of steps. With `source` the config is another class's."""
    return dict(cls=cls, name=name, config=config, steps=steps, arguments=arguments or {}, source=source)


def sigma_spacings(cls, **more):
    """The spacings that every class in sigmas has, of timesteps and of noise levels."""
    return [
        case(cls, "leading", SD15 | more, FULL),
        case(cls, "linspace", BETAS | more, LONG),
        case(cls, "trailing", TRAILING | more),
        case(cls, "defaults", more),
        case(cls, "v", SD15 | V | more),
        # In float32 an ancestral step down from the cosine schedule's first level is the root of a negative number.
        *([] if cls == KDPM2A else [case(cls, "cosine", dict(beta_schedule="squaredcos_cap_v2") | more)]),
        case(cls, "trained-betas", TRAINED | more),
    ]


def noise_spacings(cls, base=SD15):
    return [
        case(cls, "karras", base | KARRAS, LONG),
        case(cls, "exponential", base | EXPONENTIAL),
        case(cls, "beta", base | BETA),
    ]


def ends(cls):
    return [
        case(cls, f"ends-{name}", SD15 | spacing | dict(sigma_min=0.1, sigma_max=10.0), source=EULER)
        for name, spacing in (("karras", KARRAS), ("exponential", EXPONENTIAL), ("beta", BETA))
    ]


def orders(cls, **more):
    return [case(cls, f"order-{order}", BETAS | dict(solver_order=order) | more, LONG) for order in (1, 3)]


def solver(cls):
    return [
        case(cls, "sample", BETAS | SAMPLE),
        case(cls, "thresholding", BETAS | SAMPLE | THRESHOLD),
        case(cls, "flow", FLOW | dict(flow_shift=3.0), LONG),
        case(cls, "flow-unshifted", FLOW),
        case(cls, "flow-dynamic", FLOW | dict(use_dynamic_shifting=True), arguments=dict(mu=0.8)),
        *orders(cls),
    ]


def overrides():
    """Configs as released models have them, taken over by every other class."""
    pndm = SD15 | dict(skip_prk_steps=True, set_alpha_to_one=False, trained_betas=None, clip_sample=False)
    turbo = TRAILING | dict(clip_sample=False, interpolation_type="linear", sample_max_value=1.0, set_alpha_to_one=False,
                            skip_prk_steps=True, steps_offset=1, use_karras_sigmas=False)
    unipc = BETAS | dict(solver_type="bh2", solver_order=2, lower_order_final=True, thresholding=False, predict_x0=True,
                         disable_corrector=[])
    deis = BETAS | SIGMA_MIN | dict(algorithm_type="deis", solver_type="logrho", solver_order=2, use_karras_sigmas=True)
    flow = dict(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    classes = (DDIM, DDPM, PNDM, EULER, ANCESTRAL, HEUN, LMS, KDPM2, KDPM2A, SDE, MULTI, SINGLE, DEIS, UNIPC, LCM, TCD)
    return [
        *(case(cls, "from-pndm", pndm, source=PNDM) for cls in classes if cls != PNDM),
        *(case(cls, "from-turbo", turbo, source=ANCESTRAL) for cls in (PNDM, EULER, UNIPC, DDIM)),
        *(case(cls, "from-unipc", unipc, source=UNIPC) for cls in (MULTI, SINGLE, DEIS, EULER)),
        *(case(cls, "from-deis", deis, source=DEIS) for cls in (MULTI, SINGLE, UNIPC, HEUN)),
        *(case(cls, "from-zero-snr", ZERO_SNR, source=DDIM) for cls in (HEUN, EULER, UNIPC, PNDM)),
        *(case(cls, "from-flow-unipc", flow, source=UNIPC) for cls in (MULTI, SINGLE, DEIS)),
    ]


CASES = (
    case(DDIM, "sd15", SD15 | dict(clip_sample=False, set_alpha_to_one=False), FULL),
    case(DDIM, "zero-snr-v-trailing", ZERO_SNR | dict(clip_sample=False)),
    case(DDIM, "v-leading", SD15 | V | dict(clip_sample=False, set_alpha_to_one=False)),
    case(DDIM, "defaults-clip-sample", {}),
    case(DDIM, "clip-range", SD15 | dict(clip_sample_range=0.7)),
    case(DDIM, "linspace-sample", BETAS | SAMPLE | dict(timestep_spacing="linspace", clip_sample=False)),
    case(DDIM, "thresholding", SD15 | THRESHOLD),
    case(DDIM, "trained-betas", TRAINED),
    case(DDPM, "sd15", SD15 | dict(clip_sample=False), FULL),
    case(DDPM, "defaults", {}),
    case(DDPM, "v-zero-snr", ZERO_SNR | dict(clip_sample=False)),
    case(DDPM, "sample-linspace", BETAS | SAMPLE | dict(timestep_spacing="linspace")),
    case(DDPM, "thresholding", SD15 | THRESHOLD),
    case(DDPM, "small-log", SD15 | dict(variance_type="fixed_small_log")),
    case(DDPM, "large", SD15 | dict(variance_type="fixed_large")),
    case(DDPM, "sigmoid", dict(beta_schedule="sigmoid")),
    case(DDPM, "laplace", dict(beta_schedule="laplace")),
    case(PNDM, "sd15", SD15 | dict(skip_prk_steps=True), (1, 2, 3, *FULL)),
    case(PNDM, "runge-kutta", SD15, FULL),
    case(PNDM, "alpha-one", SD15 | dict(skip_prk_steps=True, set_alpha_to_one=True)),
    case(PNDM, "v", SD15 | V | dict(skip_prk_steps=True)),
    case(PNDM, "v-runge-kutta", SD15 | V),
    case(PNDM, "linspace", BETAS | dict(skip_prk_steps=True, timestep_spacing="linspace")),
    case(PNDM, "trailing", TRAILING | dict(skip_prk_steps=True)),
    case(PNDM, "trailing-runge-kutta", TRAILING),
    *sigma_spacings(EULER), *noise_spacings(EULER), *ends(EULER),
    case(EULER, "sample", SD15 | SAMPLE),
    case(EULER, "zero-snr-v-trailing", ZERO_SNR),
    case(EULER, "log-linear", BETAS | dict(interpolation_type="log_linear")),
    case(EULER, "sigma-min", SD15 | SIGMA_MIN),
    case(EULER, "continuous", V | KARRAS | dict(timestep_type="continuous", sigma_min=0.002, sigma_max=700.0)),
    *sigma_spacings(ANCESTRAL),
    case(ANCESTRAL, "zero-snr-v-trailing", ZERO_SNR),
    *sigma_spacings(HEUN), *noise_spacings(HEUN),
    case(HEUN, "sample", SD15 | SAMPLE),
    case(HEUN, "clip-sample", SD15 | dict(clip_sample=True, clip_sample_range=0.8)),
    case(HEUN, "exp-betas", dict(beta_schedule="exp")),
    *sigma_spacings(LMS), *noise_spacings(LMS),
    case(LMS, "sample", SD15 | SAMPLE),
    *sigma_spacings(KDPM2), *noise_spacings(KDPM2),
    *sigma_spacings(KDPM2A), *noise_spacings(KDPM2A),
    *sigma_spacings(SDE), *noise_spacings(SDE),
    *sigma_spacings(MULTI), *noise_spacings(MULTI), *ends(MULTI), *solver(MULTI),
    case(MULTI, "lu", SD15 | dict(use_lu_lambdas=True), LONG),
    case(MULTI, "heun", BETAS | dict(solver_type="heun")),
    case(MULTI, "sigma-min-no-lower-order", BETAS | SIGMA_MIN | dict(lower_order_final=False)),
    case(MULTI, "sigma-min-order-3", BETAS | SIGMA_MIN | dict(solver_order=3), LONG),
    case(MULTI, "euler-at-final", BETAS | SIGMA_MIN | dict(euler_at_final=True), LONG),
    case(MULTI, "zero-snr-v-trailing", ZERO_SNR),
    case(MULTI, "clipped-lambda", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)),
    *(case(MULTI, f"sde-{name}", SD15 | more | dict(algorithm_type="sde-dpmsolver++"), LONG)
      for name, more in (("2m", {}), ("karras", KARRAS), ("heun", dict(solver_type="heun")), ("order-1", dict(solver_order=1)),
                         ("order-3", dict(solver_order=3)), ("v", V))),
    *(case(MULTI, f"first-{name}", SD15 | SIGMA_MIN | more | dict(algorithm_type="dpmsolver"))
      for name, more in (("2m", {}), ("heun", dict(solver_type="heun")), ("order-3", dict(solver_order=3)), ("v", V),
                         ("sample", SAMPLE), ("thresholding", THRESHOLD))),
    case(MULTI, "first-sde", SD15 | SIGMA_MIN | dict(algorithm_type="sde-dpmsolver")),
    case(MULTI, "first-sde-heun", SD15 | SIGMA_MIN | dict(algorithm_type="sde-dpmsolver", solver_type="heun")),
    case(SINGLE, "defaults", {}),
    case(SINGLE, "2s", BETAS, (4, 5, 10)),
    case(SINGLE, "v", BETAS | V),
    case(SINGLE, "heun", BETAS | dict(solver_type="heun")),
    case(SINGLE, "order-3-steps", BETAS | dict(solver_order=3), (6, 7, 8)),
    case(SINGLE, "order-3-heun", BETAS | dict(solver_order=3, solver_type="heun"), (6, 7, 8)),
    case(SINGLE, "whole-blocks", BETAS | SIGMA_MIN | dict(solver_order=3), (6, 7)),
    case(SINGLE, "whole-blocks-2", BETAS | SIGMA_MIN, (4, 5)),
    case(SINGLE, "lower-order-final", BETAS | SIGMA_MIN | dict(solver_order=3, lower_order_final=True), (6, 7, 8)),
    case(SINGLE, "sde", BETAS | dict(algorithm_type="sde-dpmsolver++")),
    case(SINGLE, "sde-order-3", BETAS | dict(algorithm_type="sde-dpmsolver++", solver_order=3), (6,)),
    case(SINGLE, "sde-order-3-heun", BETAS | dict(algorithm_type="sde-dpmsolver++", solver_order=3, solver_type="heun"), (6,)),
    case(SINGLE, "first", BETAS | SIGMA_MIN | dict(algorithm_type="dpmsolver", solver_order=3), (6,)),
    case(SINGLE, "first-heun", BETAS | SIGMA_MIN | dict(algorithm_type="dpmsolver", solver_order=3, solver_type="heun"), (6,)),
    case(SINGLE, "trained-betas", TRAINED),
    *noise_spacings(SINGLE, BETAS), *solver(SINGLE),
    *sigma_spacings(DEIS), *noise_spacings(DEIS), *ends(DEIS), *solver(DEIS),
    case(DEIS, "no-lower-order", BETAS | dict(lower_order_final=False, solver_order=3)),
    *sigma_spacings(UNIPC), *noise_spacings(UNIPC), *ends(UNIPC), *solver(UNIPC),
    case(UNIPC, "order-4", BETAS | dict(solver_order=4), (8,)),
    case(UNIPC, "sigma-min", BETAS | SIGMA_MIN),
    case(UNIPC, "sigma-min-karras", BETAS | SIGMA_MIN | KARRAS),
    case(UNIPC, "bh1", BETAS | SIGMA_MIN | dict(solver_type="bh1", solver_order=3), LONG),
    case(UNIPC, "noise", BETAS | SIGMA_MIN | dict(predict_x0=False, solver_order=3), LONG),
    case(UNIPC, "noise-v", BETAS | SIGMA_MIN | V | dict(predict_x0=False)),
    case(UNIPC, "noise-sample", BETAS | SIGMA_MIN | SAMPLE | dict(predict_x0=False)),
    case(UNIPC, "no-lower-order", BETAS | SIGMA_MIN | dict(lower_order_final=False)),
    case(UNIPC, "no-corrector", BETAS | dict(disable_corrector=[0, 2])),
    case(UNIPC, "zero-snr-v-trailing", ZERO_SNR),
    case(UNIPC, "flow-karras", FLOW | KARRAS),
    case(UNIPC, "flow-dynamic-linear", FLOW | dict(use_dynamic_shifting=True, time_shift_type="linear"), arguments=dict(mu=1.5)),
    case(UNIPC, "flow-terminal", FLOW | dict(flow_shift=2.0, shift_terminal=0.1)),
    case(UNIPC, "flow-sigma-min", FLOW | SIGMA_MIN),
    case(UNIPC, "flow-sigmas", FLOW, arguments=dict(sigmas=lambda steps: np.linspace(1.0, 1 / steps, steps))),
    case(LCM, "sd15", BETAS | dict(original_inference_steps=50, set_alpha_to_one=True), FULL),
    case(LCM, "sdxl", SD15 | dict(original_inference_steps=50, set_alpha_to_one=False)),
    case(LCM, "v-100-original-steps", BETAS | V | dict(original_inference_steps=100)),
    case(LCM, "sample-clip", SAMPLE | dict(clip_sample=True, clip_sample_range=0.5)),
    case(LCM, "thresholding", THRESHOLD),
    case(LCM, "zero-snr", dict(rescale_betas_zero_snr=True, prediction_type="v_prediction")),
    case(LCM, "timestep-scaling", dict(timestep_scaling=1.0)),
    case(TCD, "defaults", {}, FULL),
    case(TCD, "v", V | dict(original_inference_steps=100)),
    case(TCD, "sample", SAMPLE),
    case(TCD, "zero-snr-v", V | dict(rescale_betas_zero_snr=True)),
    case(TCD, "eta-0", dict(eta=0.0)),
    case(TCD, "eta-1", dict(eta=1.0)),
    *(
        made
        for cls in (FLOW_EULER, FLOW_LCM)
        for made in (
            case(cls, "sd3", dict(shift=3.0), FULL),
            case(cls, "no-shift", dict(shift=1.0)),
            case(cls, "flux-dynamic", dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
                 arguments=dict(mu=0.8, sigmas=lambda steps: np.linspace(1.0, 1 / steps, steps).tolist())),
            case(cls, "dynamic-linear", dict(use_dynamic_shifting=True, time_shift_type="linear"), arguments=dict(mu=1.5)),
            case(cls, "dynamic-terminal", dict(use_dynamic_shifting=True, shift_terminal=0.1), arguments=dict(mu=0.8)),
            case(cls, "inverted", dict(shift=2.0, invert_sigmas=True)),
            case(cls, "karras", dict(shift=3.0) | KARRAS),
            case(cls, "exponential", dict(shift=3.0) | EXPONENTIAL),
            case(cls, "beta", dict(shift=3.0) | BETA),
        )
    ),
    case(FLOW_EULER, "stochastic", dict(shift=3.0, stochastic_sampling=True)),
    case(FLOW_HEUN, "sd3", dict(shift=3.0), FULL),
    case(FLOW_HEUN, "no-shift", {}),
    *overrides(),
)


def plain(values):
    """float32 values by their shortest decimals; other numbers as they are."""
    array = np.asarray(values)
    return [float(str(value)) if array.dtype == np.float32 else value.item() for value in array.reshape(-1)]


def wave(function, phase):
    return torch.from_numpy(function(phase).astype(np.float32)).reshape(1, 1, 2, 2)


class Noises:
    """The noises of one image, in the order in which they are drawn."""

    def __init__(self):
        self.drawn = 0

    def draw(self, *_, **__):
        noise = wave(np.cos, 1.3 * INDEX + 0.5 * self.drawn + 0.2)
        self.drawn += 1
        return noise


class Path:
    """Takes the place of DPM++ SDE's Brownian tree: increments over a step's two halves are drawn, and their sum is the step's."""

    def __init__(self, noises):
        self.noises, self.first = noises, None

    def __call__(self, sigma, sigma_next):
        if self.first is None:
            self.first = (self.noises.draw(), sigma - sigma_next)
            return self.first[0]
        (noise, length), self.first = self.first, None
        rest = (sigma - sigma_next) - length
        return (length.sqrt() * noise + rest.sqrt() * self.noises.draw()) / (sigma - sigma_next).sqrt()


def predict(scaled, timestep):
    return 0.3 * scaled + wave(np.sin, 0.7 * INDEX + 0.005 * float(timestep) + 0.1)


def trajectory(scheduler, extra):
    """Every sample after its call, the first value of the network's input before it, and the number of noises drawn."""
    noises = Noises()
    module = type(scheduler).__module__
    sample = wave(np.cos, 0.9 * INDEX) * torch.tensor(float(getattr(scheduler, "init_noise_sigma", 1.0)))
    samples, inputs = [], []
    with (
        mock.patch(f"{module}.randn_tensor", noises.draw, create=True),
        mock.patch(f"{module}.BrownianTreeNoiseSampler", lambda *_: Path(noises), create=True),
    ):
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample
            inputs.append(plain(scaled)[0])
            sample = scheduler.step(predict(scaled, timestep), timestep, sample, return_dict=False, **extra)[0]
            samples.append(plain(sample))
    return samples, inputs, noises.drawn


def make(made):
    cls = getattr(diffusers, made["cls"])
    # eta is an argument of the step in diffusers.
    config = {key: value for key, value in made["config"].items() if key != "eta"}
    extra = {"eta": made["config"]["eta"]} if "eta" in made["config"] else {}
    if made["source"] is None:
        return cls(**config), extra
    return cls.from_config(config | {"_class_name": made["source"]}), extra


def run_case(made, steps):
    scheduler, extra = make(made)
    arguments = {name: value(steps) if callable(value) else value for name, value in made["arguments"].items()}
    # Custom sigmas say by themselves how many steps there are.
    scheduler.set_timesteps(**({} if "sigmas" in arguments else {"num_inference_steps": steps}), **arguments)
    samples, inputs, noises = trajectory(scheduler, extra)
    if not np.isfinite(samples).all():
        raise ValueError(f"{made['cls']} {made['name']}: not finite in {steps} steps")
    print(f"{made['cls']} {made['name']}, {steps} steps: ends at {samples[-1][:2]}", flush=True)
    return {
        "num_inference_steps": steps,
        "arguments": {name: np.asarray(value).tolist() for name, value in arguments.items()},
        "timesteps": plain(scheduler.timesteps),
        "init_noise_sigma": float(str(np.float32(getattr(scheduler, "init_noise_sigma", 1.0)))),
        "inputs": inputs,
        "samples": samples,
        "noises": noises,
    }


def goldens():
    cases = []
    for made in CASES:
        cases.append({
            "name": f"{made['cls']}: {made['name']}",
            "class_name": made["cls"],
            "config": {"_class_name": made["source"] or made["cls"]} | made["config"],
            "runs": [run_case(made, steps) for steps in made["steps"]],
        })
    return {
        "start": "sample[i] = float32(cos(0.9 i)) * init_noise_sigma",
        "model_output": "at timestep t, of the scaled input x: float32(0.3 x_i + float32(sin(0.7 i + 0.005 t + 0.1)))",
        "noise": "the n-th that is drawn: float32(cos(1.3 i + 0.5 n + 0.2))",
        "cases": cases,
    }


def main():
    warnings.simplefilter("ignore")
    diffusers.logging.set_verbosity_error()
    path = GOLDENS / "schedulers.json"
    path.write_text(json.dumps(goldens(), allow_nan=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
