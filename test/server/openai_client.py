"""The official Python client against a running server: openai_client.py URL KEY. Prints OK, or fails."""

import base64
import sys

import openai

url, key = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

answer = client.images.generate(
    prompt="a red apple",
    model="emoji-sd",
    n=2,
    size="auto",
    quality="high",
    style="vivid",
    background="transparent",
    moderation="low",
    output_format="jpeg",
    output_compression=80,
    user="somebody",
)
assert len(answer.data) == 2 and answer.output_format == "jpeg", answer
assert base64.b64decode(answer.data[0].b64_json)[:3] == b"\xff\xd8\xff"

partials = []
completed = None
for event in client.images.generate(prompt="a boat", stream=True, partial_images=2):
    if event.type == "image_generation.partial_image":
        partials.append(event.partial_image_index)
        assert event.created_at > 1.7e9 and event.quality == "auto", event
    if event.type == "image_generation.completed":
        completed = event
assert partials == list(range(len(partials))) and partials, partials
assert completed is not None and completed.usage.total_tokens == 0, completed

for call, expected in (
    (lambda: client.images.generate(prompt=""), openai.BadRequestError),
    (lambda: client.images.generate(prompt="x", model="dall-e-3"), openai.NotFoundError),
    (lambda: client.with_options(api_key="another-key-altogether").models.list(), openai.AuthenticationError),
):
    try:
        call()
    except expected:
        continue
    raise AssertionError(f"expected {expected}")

assert [model.id for model in client.models.list()] == ["emoji-sd"]
print("OK", openai.__version__)
