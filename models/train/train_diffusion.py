"""Trains the denoiser and the text encoder together on the autoencoder's latents.

    python models/train/train_diffusion.py --emoji PACKAGE --work FOLDER [--steps N] [--threads N] [--compile]

Stops after `--steps`; started again, it goes on where the last checkpoint is, also with another `--steps`. The network
predicts the velocity (arXiv 2202.00512) under a schedule that ends in pure noise (arXiv 2305.08891); the loss is
weighted by min-SNR (arXiv 2303.09556); what ships is a moving average of the weights.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from captions import DROPPED, training_captions
from clip_tokenizer import MAX_LENGTH, write_tokenizer
from parts import new_scheduler, new_text_encoder, new_unet, new_vae
from pictures import concept_pictures
from train_autoencoder import save_sheet

BATCH, PEAK_LR, SEED = 16, 1.2e-3, 2
PROMPT_DROPOUT, GROUP_SHARE = 0.1, 0.06
MIN_SNR, EMA_DECAY = 5.0, 0.997
SHEET = ("a red apple", "a green apple", "a cat", "the blue heart", "heart that is purple", "a taxi", "rocket", "an owl",
         "a fox", "a slice of pizza", "a red car", "a snowman", "a sad face", "a unicorn", "a rainbow", "a green book")


@torch.no_grad()
def latents_of(work, emoji):
    """Latents of unit spread, [concept, pose, 4, 16, 16], and the scaling factor that made them so."""
    vae = new_vae().eval()
    vae.load_state_dict(torch.load(work / "autoencoder.pt")["vae"])
    pictures = concept_pictures(emoji)
    latents = torch.stack([vae.encode(poses).latent_dist.mode() for poses in pictures])
    scaling = round(1 / float(latents.std()), 5)
    return latents * scaling, scaling, vae


class Captions:
    """Draws a caption for a concept; token ids are looked up, not made anew."""

    def __init__(self, tokenizer, seed):
        self.random = random.Random(seed)
        self.pools = training_captions()
        sentences = sorted({s for pools in self.pools for pool in pools for s in pool} | {DROPPED})
        ids = tokenizer(sentences, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt").input_ids
        self.ids = dict(zip(sentences, ids, strict=True))

    def draw(self, concept):
        own, shared = self.pools[concept]
        if self.random.random() < PROMPT_DROPOUT:
            return self.ids[DROPPED]
        return self.ids[self.random.choice(shared if shared and self.random.random() < GROUP_SHARE else own)]

    def batch(self, concepts):
        return torch.stack([self.draw(int(concept)) for concept in concepts])


class Noising:
    """The forward process."""

    def __init__(self, scheduler):
        self.alphas = scheduler.alphas_cumprod

    def __call__(self, latents, generator):
        # Evenly spread over the batch, so that its loss varies less.
        count = len(self.alphas)
        times = ((torch.rand(1, generator=generator) + torch.arange(len(latents)) / len(latents)) % 1 * count).long()
        noise = torch.randn(latents.shape, generator=generator)
        signal = self.alphas[times].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alphas[times]).sqrt().view(-1, 1, 1, 1)
        snr = self.alphas[times] / (1 - self.alphas[times])
        weight = snr.clamp(max=MIN_SNR) / (snr + 1)
        # At pure noise the weight would be 0, and the first step would never be learnt.
        return times, signal * latents + sigma * noise, signal * noise - sigma * latents, weight.clamp(min=0.1)


@torch.no_grad()
def sample(unet, text_encoder, tokenizer, vae, scaling, prompts, steps=10, guidance=3.0, seed=0):
    """Pictures [prompt, 3, 64, 64] of -1 to 1."""
    scheduler = new_scheduler()
    scheduler.set_timesteps(steps)
    ids = tokenizer([DROPPED] * len(prompts) + list(prompts), padding="max_length", max_length=MAX_LENGTH, truncation=True,
                    return_tensors="pt").input_ids
    text = text_encoder(ids).last_hidden_state
    latents = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    for timestep in scheduler.timesteps:
        without, along = unet(torch.cat([latents] * 2), timestep, text).sample.chunk(2)
        latents = scheduler.step(without + guidance * (along - without), timestep, latents).prev_sample
    return vae.decode(latents / scaling).sample


def learning_rate(step, steps):
    """Rises for 200 steps, holds, and falls to zero over the last third: the total may change between two starts."""
    return PEAK_LR * min(1, (step + 1) / 200, max(0, steps - step) / (steps / 3))


def write_checkpoint(path, state):
    temporary = path.with_suffix(".new")
    torch.save(state, temporary)
    temporary.replace(path)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def main():
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    work = arguments.work
    # Merges that are equally frequent come in another order each time: one tokenizer for all starts of a run.
    if not (work / "tokenizer" / "vocab.json").exists():
        write_tokenizer(work / "tokenizer")
    vocab = json.loads((work / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    latents, scaling, vae = latents_of(work, arguments.emoji)
    unet, text_encoder = new_unet().to(memory_format=torch.channels_last), new_text_encoder(vocab)
    scheduler = new_scheduler()
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=1e-3)
    averages = [parameter.detach().clone() for parameter in parameters]
    checkpoint, step, spent = work / "diffusion.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        unet.load_state_dict(saved["unet"])
        text_encoder.load_state_dict(saved["text_encoder"])
        optimizer.load_state_dict(saved["optimizer"])
        averages, step, spent = saved["averages"], saved["step"], saved["cpu_s"]
    generator = torch.Generator().manual_seed(SEED + step)
    captions, noising = Captions(tokenizer, SEED + step), Noising(scheduler)
    denoiser = torch.compile(unet, dynamic=False) if arguments.compile else unet
    log = (work / "diffusion.jsonl").open("a", buffering=1)
    began, last, losses = time.process_time(), time.time(), []

    def save():
        write_checkpoint(checkpoint, {
            "unet": unet.state_dict(), "text_encoder": text_encoder.state_dict(), "optimizer": optimizer.state_dict(),
            "averages": averages, "step": step, "scaling_factor": scaling, "cpu_s": spent + time.process_time() - began})

    def with_averages(use):
        trained = [parameter.detach().clone() for parameter in parameters]
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.data.copy_(average)
        result = use()
        for parameter, value in zip(parameters, trained, strict=True):
            parameter.data.copy_(value)
        return result

    while step < arguments.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps)
        concepts = torch.randint(latents.shape[0], (BATCH,), generator=generator)
        poses = torch.randint(latents.shape[1], (BATCH,), generator=generator)
        times, noisy, target, weight = noising(latents[concepts, poses], generator)
        text = text_encoder(captions.batch(concepts)).last_hidden_state
        found = denoiser(noisy.to(memory_format=torch.channels_last), times, text).sample
        error = (found - target).square().mean(dim=(1, 2, 3))
        loss = (weight * error).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - min(EMA_DECAY, step / (step + 50)))
        losses.append(loss.item())
        if step % 50 == 0:
            log.write(json.dumps({"step": step, "loss": round(sum(losses) / len(losses), 5),
                                  "cpu_s": round(spent + time.process_time() - began)}) + "\n")
            losses.clear()
        if time.time() - last > 60 or step == arguments.steps:
            last = time.time()
            save()
            drawn = with_averages(lambda: sample(unet, text_encoder, tokenizer, vae, scaling, SHEET))
            save_sheet(drawn, work / f"samples-{step:06}.png", columns=8)


if __name__ == "__main__":
    main()
