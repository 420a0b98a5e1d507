"""The official Python client, over the Unix socket as the README shows it."""

import asyncio
import time

import httpx2
import openai
from pydantic import BaseModel

from checks import ENDLESS, FRANCE, STORY, Checks, Service, raises, same, skip

check = Checks("python")
service = Service()
sent = []  # every HTTP request that the client below really made

client = openai.OpenAI(
    base_url="http://x/v1",
    api_key="unused",
    http_client=httpx2.Client(
        transport=httpx2.HTTPTransport(uds=service.socket),
        event_hooks={"request": [lambda request: sent.append(request.url.path)]},
    ),
    timeout=600,
)
MODEL = service.model


def chat(messages=FRANCE, request_id=None, using=client, **wishes):
    headers = {"x-request-id": request_id} if request_id else {}
    headers.update(wishes.pop("extra_headers", {}))
    wishes = {"temperature": 0, "max_tokens": 16} | wishes
    return using.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers, **wishes)


def text_of(chunks, choice=0):
    parts = [part.delta.content or "" for chunk in chunks for part in chunk.choices if part.index == choice]
    return "".join(parts)


def past_the_beginning(stream, texts=3):
    """Reads until so many texts have come; returns the chunks."""
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if sum(1 for one in chunks if one.choices and one.choices[0].delta.content) >= texts:
            return chunks
    raise AssertionError("the answer ended before it was under way")


@check("models.list")
def _():
    models = client.models.list().data
    assert MODEL in [model.id for model in models], models
    same({model.object for model in models}, {"model"})
    same(client.models.retrieve(MODEL).id, MODEL)


@check("chat plain")
def _():
    answer = chat()
    choice = answer.choices[0]
    assert "Paris" in choice.message.content, choice
    same((answer.object, choice.message.role, choice.finish_reason), ("chat.completion", "assistant", "stop"))
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=FRANCE, max_tokens=1, extra_headers={"x-request-id": "given"}
    )
    same(raw.headers["x-request-id"], "given")
    assert int(raw.headers["x-mlxsup-generation"]) >= 1 and int(raw.headers["x-mlxsup-queue-ms"]) >= 0


@check("chat stream")
def _():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    same(len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}), 1, "ids")
    same(chunks[0].object, "chat.completion.chunk")
    same(chunks[0].choices[0].delta.role, "assistant")
    assert all(part.delta.role is None for chunk in chunks[1:] for part in chunk.choices), "the role came twice"
    same([part.finish_reason for chunk in chunks for part in chunk.choices if part.finish_reason], ["stop"])
    same((chunks[-1].choices, [chunk.usage for chunk in chunks[:-1]]), ([], [None] * (len(chunks) - 1)))
    plain = chat()
    same(text_of(chunks), plain.choices[0].message.content)
    same(chunks[-1].usage, plain.usage)
    assert all(chunk.usage is None for chunk in chat(stream=True, max_tokens=2)), "usage that nobody asked for"


@check("chat stream helper")
def _():
    with client.chat.completions.stream(model=MODEL, messages=FRANCE, temperature=0, max_tokens=16) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "Paris" in final.choices[0].message.content, final
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds


@check("completions plain and stream")
def _():
    wishes = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 6}
    plain = client.completions.create(**wishes)
    same((plain.object, plain.choices[0].finish_reason, plain.usage.completion_tokens), ("text_completion", "length", 6))
    chunks = list(client.completions.create(**wishes, stream=True, stream_options={"include_usage": True}))
    same("".join(part.text for chunk in chunks for part in chunk.choices), plain.choices[0].text)
    same(len({chunk.id for chunk in chunks}), 1)
    same(chunks[-1].usage, plain.usage)


@check("stop strings")
def _():
    for stop in (" Paris", ["nowhere", " Paris"]):
        choice = chat(stop=stop).choices[0]
        same((choice.message.content, choice.finish_reason), ("The capital of France is", "stop"))
    chunks = list(chat(stop=" Paris", stream=True))
    same(text_of(chunks), "The capital of France is", "stream")


@check("seed")
def _():
    drawn = [chat(STORY, temperature=1, seed=seed).choices[0].message.content for seed in (11, 11, 12)]
    same(drawn[0], drawn[1])
    assert drawn[1] != drawn[2], "another seed drew the same"


@check("logprobs")
def _():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    entries = choice.logprobs.content
    assert choice.message.content in "".join(entry.token for entry in entries), entries
    for entry in entries:
        same(len(entry.top_logprobs), 3)
        assert entry.logprob <= 0 and bytes(entry.bytes).decode() == entry.token, entry
        # Greedy: what was chosen is what was likeliest.
        same(entry.top_logprobs[0].token, entry.token)
    streamed = [part.logprobs for chunk in chat(logprobs=True, stream=True) for part in chunk.choices if part.logprobs]
    tokens = [entry.token for part in streamed for entry in part.content]
    same(tokens, [entry.token for entry in entries][: len(tokens)], "stream")
    assert len(tokens) >= len(entries) - 1, "tokens without log probabilities in the stream"
    old = client.completions.create(model=MODEL, prompt="One two three", temperature=0, max_tokens=3, logprobs=2)
    found = old.choices[0].logprobs
    same([len(found.tokens), len(found.token_logprobs), len(found.text_offset)], [3, 3, 3])
    same([len(top) for top in found.top_logprobs], [2, 2, 2])


@check("n=2")
def _():
    wishes = {"temperature": 1, "seed": 5, "n": 2, "max_tokens": 8}
    plain = chat(STORY, **wishes)
    same([choice.index for choice in plain.choices], [0, 1])
    texts = [choice.message.content for choice in plain.choices]
    assert texts[0] != texts[1], "both choices are the same"
    chunks = list(chat(STORY, **wishes, stream=True))
    same([text_of(chunks, choice) for choice in (0, 1)], texts, "stream")
    ends = sorted(part.index for chunk in chunks for part in chunk.choices if part.finish_reason)
    same(ends, [0, 1], "one end for each choice")


@check("max_tokens and max_completion_tokens")
def _():
    for wish in ({"max_tokens": 3}, {"max_tokens": None, "max_completion_tokens": 3}):
        answer = chat(STORY, **wish)
        same((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3), str(wish))


@check("tools")
def _():
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    answer = chat(tools=[tool], tool_choice="auto")
    if not answer.choices[0].message.tool_calls:
        skip("accepted and shown to the model; the answer comes as text, tool calls in it are not parsed yet")


@check("response_format")
def _():
    class City(BaseModel):
        name: str

    error = None
    try:
        parsed = client.chat.completions.parse(model=MODEL, messages=FRANCE, max_tokens=32, response_format=City)
    except openai.BadRequestError as refused:
        error = refused
    if error is not None:
        same((error.param, error.code), ("response_format.type", "invalid_value"))
        skip(f"refused, as documented: {error.body['message']}")
    assert parsed.choices[0].message.parsed, parsed


@check("unknown path: 404, one attempt")
def _():
    before = len(sent)
    error = raises(openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="a"))
    same((error.code, error.response.headers.get("x-should-retry")), ("not_found", "false"))
    same(sent[before:], ["/v1/embeddings"])


@check("wrong type: 400 with param, one attempt")
def _():
    mark = service.new_id()
    error = raises(openai.BadRequestError, lambda: chat(request_id=mark, temperature="hot"))
    same((error.param, error.code, error.type), ("temperature", "invalid_value", "invalid_request_error"))
    same(error.request_id, mark)
    service.tried_once(mark, 400, "invalid_value")
    error = raises(openai.BadRequestError, lambda: chat([{"role": "user", "content": 7}]))
    same(error.param, "messages[0].content")
    error = raises(openai.BadRequestError, lambda: chat(n="two"))
    same(error.param, "n")


@check("context_length_exceeded: 400, one attempt")
def _():
    mark = service.new_id()
    long = [{"role": "user", "content": "word " * (2 * service.context)}]
    error = raises(openai.BadRequestError, lambda: chat(long, request_id=mark))
    same(error.code, "context_length_exceeded")
    assert f"This model's maximum context length is {service.context} tokens. However, you requested" in error.message, error.message
    service.tried_once(mark, 400, "context_length_exceeded")
    return error.body["message"]


@check("invalid key: 401, one attempt")
def _():
    mark = service.new_id()
    stranger = openai.OpenAI(base_url=service.url, api_key="no-such-key-0123456789")
    error = raises(openai.AuthenticationError, lambda: chat(request_id=mark, using=stranger))
    same(error.code, "invalid_api_key")
    service.tried_once(mark, 401, "invalid_api_key")
    friend = openai.OpenAI(base_url=service.url, api_key=service.key)
    assert "Paris" in chat(using=friend).choices[0].message.content


@check("unlisted model: 404, one attempt")
def _():
    mark = service.new_id()
    wanted = {"model": "gpt-none", "messages": FRANCE, "extra_headers": {"x-request-id": mark}}
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(**wanted))
    same(error.code, "model_not_found")
    service.tried_once(mark, 404, "model_not_found")
    same(raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-none")).code, "model_not_found")


@check("unloaded: 503, one attempt")
def _():
    mark = service.new_id()
    service.ctl("unload")
    try:
        error = raises(openai.InternalServerError, lambda: chat(request_id=mark))
    finally:
        service.ctl("load")
    same((error.status_code, error.code, error.response.headers.get("x-should-retry")), (503, "unloaded", "false"))
    service.tried_once(mark, 503, "unloaded")


@check("queue full: 429, then answered as told")
def _():
    mark = service.new_id()
    limit = 8

    async def crowd():
        one = asynchronous()
        service.ctl("drain")
        waiting = [asyncio.create_task(chat(using=one, max_tokens=1)) for _ in range(limit)]
        try:
            await asyncio.to_thread(service.until_waiting, limit)
            late = asyncio.create_task(asyncio.to_thread(chat, request_id=mark, max_tokens=1))
            refused = await asyncio.to_thread(service.attempts, mark)
            same((refused[0]["status"], refused[0]["code"]), ("429", "queue_full"))
        finally:
            service.ctl("resume")
        answers = await asyncio.gather(*waiting, late)
        same([answer.choices[0].finish_reason for answer in answers], ["length"] * (limit + 1))
        await one.close()

    asyncio.run(crowd())
    same([line["status"] for line in service.attempts(mark, 2)], ["429", "200"])


@check("client timeout: cancelled, slot free")
def _():
    mark = service.new_id()
    hasty = client.with_options(timeout=2, max_retries=0)
    raises(openai.APITimeoutError, lambda: chat(STORY, request_id=mark, using=hasty, **ENDLESS))
    service.until_idle()
    service.tried_once(mark, 499, "cancelled")


@check("x-stainless-read-timeout caps the wait of a plain request")
def _():
    mark = service.new_id()
    with service.drained():
        capped = {"extra_headers": {"x-stainless-read-timeout": "1"}}
        error = raises(openai.InternalServerError, lambda: chat(request_id=mark, **capped))
    same((error.status_code, error.code, error.response.headers.get("x-should-retry")), (504, "queue_timeout", "false"))
    service.tried_once(mark, 504, "queue_timeout")


@check("read timeout of a plain request that waits: ends at once, on either side")
def _():
    mark = service.new_id()
    with service.drained():
        hasty = client.with_options(timeout=2, max_retries=0)
        error = raises(openai.OpenAIError, lambda: chat(request_id=mark, using=hasty))
    line = service.attempts(mark)[0]
    assert (line["status"], line["code"]) in (("504", "queue_timeout"), ("499", "cancelled")), line
    return f"{type(error).__name__}, {line['code']}"


@check("a stream that waits outlives its read timeout")
def _():
    mark = service.new_id()

    patience = 3

    async def outwait():
        patient = asynchronous(timeout=patience, max_retries=0)

        async def read():
            stream = await chat(using=patient, request_id=mark, stream=True)
            return [chunk async for chunk in stream]

        service.ctl("drain")
        try:
            begun = time.monotonic()
            reading = asyncio.create_task(read())
            await asyncio.to_thread(service.until_waiting, 1)
            while time.monotonic() < begun + 2.5 * patience and not reading.done():
                await asyncio.sleep(0.1)
        finally:
            service.ctl("resume")
        # Reading the prompt may take longer than that on a busy machine: comments keep it alive there, too.
        chunks = await reading
        await patient.close()
        return chunks

    assert "Paris" in text_of(asyncio.run(outwait()))
    (line,) = service.attempts(mark)
    assert int(line["queue_ms"]) > 2000 * patience, line
    return f"waited {line['queue_ms']} ms with a read timeout of {patience} s"


@check("closing a stream frees its slot")
def _():
    mark = service.new_id()
    stream = chat(STORY, request_id=mark, stream=True, **ENDLESS)
    past_the_beginning(stream)
    same(service.status()["queue"]["active"], 1)
    stream.close()
    service.until_idle()
    service.tried_once(mark, 499, "cancelled")


@check("an error in mid-stream is an APIError")
def _():
    mark = service.new_id()
    stream = chat(STORY, request_id=mark, stream=True, **ENDLESS)
    past_the_beginning(stream)
    service.ctl("unload", "--now")
    try:
        error = raises(openai.APIError, lambda: list(stream))
    finally:
        service.ctl("load")
    same(error.code, "unloaded")
    service.tried_once(mark, 503, "unloaded")


@check("a stream survives kill -9 of the worker")
def _():
    wishes = {"messages": STORY, "max_tokens": 32, "stream": True, "stream_options": {"include_usage": True}}
    whole = list(chat(**wishes))
    mark = service.new_id()
    stream = chat(**wishes, request_id=mark)
    chunks = past_the_beginning(stream, 5)
    killed = service.kill_worker()
    chunks += list(stream)
    same(text_of(chunks), text_of(whole))
    same(chunks[-1].usage, whole[-1].usage)
    same(len({(chunk.id, chunk.created) for chunk in chunks}), 1, "ids")
    (line,) = service.attempts(mark)
    same((line["status"], line["generations"]), ("200", f"{killed},{killed + 1}"))
    return f"generations {line['generations']}, {line['completion_tokens']} tokens, {line['total_ms']} ms"


@check("8 streams at once")
def _():
    async def crowd():
        one = asynchronous()

        async def ask(number):
            messages = [{"role": "user", "content": f"Tell me about the number {number}."}]
            stream = await chat(messages, using=one, stream=True, max_tokens=8)
            return [chunk async for chunk in stream]

        answers = await asyncio.gather(*(ask(number) for number in range(8)))
        await one.close()
        return answers

    answers = asyncio.run(crowd())
    same(len({chunk.id for chunks in answers for chunk in chunks}), 8, "ids")
    for chunks in answers:
        same([part.finish_reason for chunk in chunks for part in chunk.choices if part.finish_reason], ["length"])
        assert text_of(chunks)
    service.until_idle()


def asynchronous(**options):
    transport = httpx2.AsyncHTTPTransport(uds=service.socket)
    options = {"timeout": 600} | options
    http = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(base_url="http://x/v1", api_key="unused", http_client=http, **options)


check.run()
