// The official Node client, over TCP with a key; over the Unix socket with undici.

import OpenAI from 'openai';
import { Agent, fetch as undiciFetch } from 'undici';
import { setTimeout as pause } from 'node:timers/promises';

import {
  Skip, attempts, check, context, ctl, drained, key, killWorker, model, newId, raises, runChecks, same, socketPath,
  status, triedOnce, until, untilIdle, url,
} from './service.mjs';

const FRANCE = [{ role: 'user', content: 'What is the capital of France?' }];
const STORY = [{ role: 'user', content: 'Tell me a story about a sailor.' }];
// The token that ends an answer of the small model, made impossible: the answer goes on until something else ends it.
const ENDLESS = { messages: STORY, max_tokens: 1900, logit_bias: { 2: -100 } };

let requests = 0; // that the client below really made
const client = new OpenAI({
  baseURL: url,
  apiKey: key,
  timeout: 600_000,
  fetch: (...request) => ((requests += 1), fetch(...request)),
});

const wishes = (more) => ({ model, messages: FRANCE, temperature: 0, max_tokens: 16, ...more });
const named = (id, more) => ({ headers: { 'x-request-id': id }, ...more });
const chat = (more, options) => client.chat.completions.create(wishes(more), options);
const textOf = (chunks, choice = 0) =>
  chunks.flatMap((chunk) => chunk.choices).filter((part) => part.index === choice)
    .map((part) => part.delta.content ?? '').join('');
const ends = (chunks) => chunks.flatMap((chunk) => chunk.choices).map((part) => part.finish_reason).filter(Boolean);

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

/** Calls `act` once, when so many texts have come; returns all chunks. */
async function meanwhile(stream, texts, act) {
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (chunk.choices[0]?.delta.content && (texts -= 1) === 0) await act();
  }
  if (texts > 0) throw new Error('the answer ended before it was under way');
  return chunks;
}

check('models.list', async () => {
  const models = await all(client.models.list());
  same(models.some((one) => one.id === model), true, 'listed');
  same((await client.models.retrieve(model)).id, model);
});

check('chat plain', async () => {
  const { data: answer, response, request_id } = await chat({}, named('given')).withResponse();
  same(/Paris/.test(answer.choices[0].message.content), true, 'Paris');
  same([answer.object, answer.choices[0].finish_reason], ['chat.completion', 'stop']);
  same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  same([request_id, answer._request_id], ['given', 'given']);
  same(Number(response.headers.get('x-mlxsup-generation')) >= 1, true, 'generation');
});

check('chat stream', async () => {
  const chunks = await all(chat({ stream: true, stream_options: { include_usage: true } }));
  same(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.created} ${chunk.model} ${chunk.object}`)).size, 1, 'ids');
  same(chunks.map((chunk) => chunk.choices[0]?.delta.role).filter(Boolean), ['assistant']);
  same(chunks[0].choices[0].delta.role, 'assistant');
  same(ends(chunks), ['stop']);
  const plain = await chat();
  same(textOf(chunks), plain.choices[0].message.content);
  same([chunks.at(-1).choices, chunks.at(-1).usage], [[], plain.usage]);
  same((await all(chat({ stream: true, max_tokens: 2 }))).some((chunk) => chunk.usage), false, 'usage unasked');
});

check('chat stream helper', async () => {
  const stream = client.chat.completions.stream(wishes());
  let text = '';
  stream.on('content', (part) => (text += part));
  same((await stream.finalChatCompletion()).choices[0].message.content, text);
  same(/Paris/.test(text), true, 'Paris');
});

check('completions plain and stream', async () => {
  const asked = { model, prompt: 'The capital of France is', temperature: 0, max_tokens: 6 };
  const plain = await client.completions.create(asked);
  same([plain.object, plain.choices[0].finish_reason], ['text_completion', 'length']);
  const chunks = await all(client.completions.create({ ...asked, stream: true }));
  same(chunks.flatMap((chunk) => chunk.choices).map((part) => part.text).join(''), plain.choices[0].text);
});

check('stop strings', async () => {
  for (const stop of [' Paris', ['nowhere', ' Paris']]) {
    const [choice] = (await chat({ stop })).choices;
    same([choice.message.content, choice.finish_reason], ['The capital of France is', 'stop']);
  }
});

check('seed', async () => {
  const drawn = [];
  for (const seed of [11, 11, 12]) {
    drawn.push((await chat({ messages: STORY, temperature: 1, seed })).choices[0].message.content);
  }
  same([drawn[0] === drawn[1], drawn[1] === drawn[2]], [true, false]);
});

check('logprobs', async () => {
  const entries = (await chat({ logprobs: true, top_logprobs: 3 })).choices[0].logprobs.content;
  for (const entry of entries) {
    same([entry.top_logprobs.length, entry.top_logprobs[0].token], [3, entry.token]);
    same(entry.logprob <= 0, true, 'a log probability');
  }
});

check('n=2', async () => {
  const asked = { messages: STORY, temperature: 1, seed: 5, n: 2, max_tokens: 8 };
  const texts = (await chat(asked)).choices.map((choice) => choice.message.content);
  const chunks = await all(chat({ ...asked, stream: true }));
  same([textOf(chunks, 0), textOf(chunks, 1)], texts);
  same(ends(chunks).length, 2, 'ends');
});

check('max_tokens and max_completion_tokens', async () => {
  for (const wish of [{ max_tokens: 3 }, { max_tokens: null, max_completion_tokens: 3 }]) {
    const answer = await chat({ messages: STORY, ...wish });
    same([answer.choices[0].finish_reason, answer.usage.completion_tokens], ['length', 3]);
  }
});

check('tools', async () => {
  const tool = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } };
  const answer = await chat({ tools: [tool], tool_choice: 'auto' });
  if (!answer.choices[0].message.tool_calls?.length) {
    throw new Skip('accepted and shown to the model; the answer comes as text, tool calls in it are not parsed yet');
  }
});

check('response_format', async () => {
  const asked = chat({ response_format: { type: 'json_object' }, max_tokens: 32 });
  const refused = await asked.then(() => null, (error) => error);
  if (refused) {
    same([refused.status, refused.param, refused.code], [400, 'response_format.type', 'invalid_value']);
    throw new Skip(`refused, as documented: ${refused.error.message}`);
  }
  same((await asked).choices[0].message.content.startsWith('{'), true, 'JSON');
});

check('unknown path: 404, one attempt', async () => {
  const before = requests;
  const error = await raises(OpenAI.NotFoundError, () => client.embeddings.create({ model, input: 'a' }));
  same([error.code, error.headers.get('x-should-retry'), requests - before], ['not_found', 'false', 1]);
});

check('wrong type: 400 with param, one attempt', async () => {
  const id = newId();
  const error = await raises(OpenAI.BadRequestError, () => chat({ temperature: 'hot' }, named(id)));
  same([error.param, error.code, error.type], ['temperature', 'invalid_value', 'invalid_request_error']);
  same(error.requestID, id);
  await triedOnce(id, 400, 'invalid_value');
});

check('context_length_exceeded: 400, one attempt', async () => {
  const id = newId();
  const messages = [{ role: 'user', content: 'word '.repeat(2 * context) }];
  const error = await raises(OpenAI.BadRequestError, () => chat({ messages }, named(id)));
  same(error.code, 'context_length_exceeded');
  same(error.message.includes(`maximum context length is ${context} tokens. However, you requested`), true, error.message);
  await triedOnce(id, 400, 'context_length_exceeded');
});

check('invalid key: 401, one attempt', async () => {
  const id = newId();
  const stranger = client.withOptions({ apiKey: 'no-such-key-0123456789' });
  const error = await raises(OpenAI.AuthenticationError, () =>
    stranger.chat.completions.create(wishes(), named(id)));
  same(error.code, 'invalid_api_key');
  await triedOnce(id, 401, 'invalid_api_key');
});

check('unlisted model: 404, one attempt', async () => {
  const id = newId();
  const error = await raises(OpenAI.NotFoundError, () => chat({ model: 'gpt-none' }, named(id)));
  same(error.code, 'model_not_found');
  await triedOnce(id, 404, 'model_not_found');
});

check('unloaded: 503, one attempt', async () => {
  const id = newId();
  await ctl('unload');
  try {
    const error = await raises(OpenAI.InternalServerError, () => chat({}, named(id)));
    same([error.status, error.code, error.headers.get('x-should-retry')], [503, 'unloaded', 'false']);
  } finally {
    await ctl('load');
  }
  await triedOnce(id, 503, 'unloaded');
});

check('client timeout: cancelled, slot free', async () => {
  const id = newId();
  await raises(OpenAI.APIConnectionTimeoutError, () => chat(ENDLESS, named(id, { timeout: 2000, maxRetries: 0 })));
  await untilIdle();
  await triedOnce(id, 499, 'cancelled');
});

check('x-stainless-read-timeout caps the wait of a plain request', async () => {
  const id = newId();
  const headers = { 'x-request-id': id, 'x-stainless-read-timeout': '1' };
  const error = await drained(() => raises(OpenAI.InternalServerError, () => chat({}, { headers })));
  same([error.status, error.code, error.headers.get('x-should-retry')], [504, 'queue_timeout', 'false']);
  await triedOnce(id, 504, 'queue_timeout');
});

check('a stream that waits outlives its timeout', async () => {
  const id = newId();
  const asked = { stream: true };
  const reading = { done: false };
  await drained(async () => {
    reading.chunks = all(chat(asked, named(id, { timeout: 3000, maxRetries: 0 })));
    reading.chunks.then(() => {}, () => {}).then(() => (reading.done = true));
    await until('1 waiting, or given up', (now) => now.queue.waiting === 1 || reading.done);
    const end = Date.now() + 7500;
    while (Date.now() < end && !reading.done) await pause(100);
  });
  const error = await reading.chunks.then(() => null, (failure) => failure);
  if (error) throw error;
});

check('leaving a stream frees its slot', async () => {
  const id = newId();
  const stream = await chat({ ...ENDLESS, stream: true }, named(id));
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) break;
  }
  await untilIdle();
  await triedOnce(id, 499, 'cancelled');
  const second = newId();
  const stopped = await chat({ ...ENDLESS, stream: true }, named(second));
  await meanwhile(stopped, 2, async () => {
    same((await status()).queue.active, 1, 'active');
    stopped.controller.abort();
  });
  await untilIdle();
  await triedOnce(second, 499, 'cancelled');
});

check('an error in mid-stream is an APIError', async () => {
  const id = newId();
  const stream = await chat({ ...ENDLESS, stream: true }, named(id));
  try {
    // Not awaited inside: fetch drops what a reader that lags behind has not read when a connection breaks.
    let unloading;
    const reading = meanwhile(stream, 3, () => void (unloading = ctl('unload', '--now')));
    const error = await raises(OpenAI.APIError, () => reading);
    await unloading;
    same(error.code, 'unloaded');
  } finally {
    await ctl('load');
  }
  await triedOnce(id, 503, 'unloaded');
});

check('a stream survives kill -9 of the worker', async () => {
  const asked = { messages: STORY, max_tokens: 32, stream: true };
  const whole = textOf(await all(chat(asked)));
  const id = newId();
  let killed;
  const chunks = await meanwhile(await chat(asked, named(id)), 5, async () => (killed = await killWorker()));
  same(textOf(chunks), whole);
  same(new Set(chunks.map((chunk) => chunk.id)).size, 1, 'ids');
  const [line] = await attempts(id);
  same([line.status, line.generations], ['200', `${killed},${killed + 1}`]);
  return `generations ${line.generations}, ${line.completion_tokens} tokens, ${line.total_ms} ms`;
});

check('8 streams at once', async () => {
  const ask = (number) =>
    all(chat({ messages: [{ role: 'user', content: `Tell me about the number ${number}.` }], stream: true, max_tokens: 8 }));
  const answers = await Promise.all([...Array(8).keys()].map(ask));
  same(new Set(answers.flat().map((chunk) => chunk.id)).size, 8, 'ids');
  for (const chunks of answers) same(ends(chunks), ['length']);
  await untilIdle();
});

check('over the Unix socket, with undici', async () => {
  const local = new OpenAI({
    baseURL: 'http://x/v1',
    apiKey: 'unused',
    fetch: undiciFetch,
    fetchOptions: { dispatcher: new Agent({ connect: { socketPath } }) },
  });
  const plain = await local.chat.completions.create(wishes());
  same(/Paris/.test(plain.choices[0].message.content), true, 'Paris');
  same(textOf(await all(local.chat.completions.create(wishes({ stream: true })))), plain.choices[0].message.content);
});

// undici keeps its connections: without this the process would wait for them.
process.exit(await runChecks('node'));
