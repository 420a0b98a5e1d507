// What the Node checks ask of the daemon, and how they report: the twin of checks.py.

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual, inspect } from 'node:util';

const run = promisify(execFile);
// The longest any state is waited for. Reached only when something is broken, or the machine is very busy.
const PATIENCE_MS = 300_000;

export const home = process.env.MLXSUP_HOME;
export const url = process.env.CONFORMANCE_URL;
export const key = process.env.CONFORMANCE_KEY;
export const model = process.env.CONFORMANCE_MODEL;
export const context = Number(process.env.CONFORMANCE_CONTEXT);
export const socketPath = `${home}/mlxsup.sock`;
const ctlPath = process.env.CONFORMANCE_CTL;

/** The check does not apply today; the text says why. */
export class Skip extends Error {}

/** Fails unless both are equal, showing both. */
export function same(found, wanted, what = '') {
  if (!isDeepStrictEqual(found, wanted)) {
    throw new Error(`${what ? `${what}: ` : ''}found ${inspect(found)}, expected ${inspect(wanted)}`);
  }
}

/** The error of `kind` that `action` ends with. */
export async function raises(kind, action) {
  let got;
  try {
    got = await action();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`no ${kind.name}; it returned ${JSON.stringify(got)}`.slice(0, 300));
}

export async function ctl(...words) {
  return (await run(ctlPath, words, { timeout: PATIENCE_MS })).stdout;
}

export async function status() {
  // Its exit status tells whether the service serves; the facts come either way.
  const said = await run(ctlPath, ['status', '--json'], { timeout: PATIENCE_MS }).catch((error) => error);
  return JSON.parse(said.stdout);
}

/** Waits for a state. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const now = await status();
    if (condition(now)) return now;
    if (Date.now() > end) throw new Error(`waited too long for: ${what}; the last status was ${JSON.stringify(now)}`);
    await pause(100);
  }
}

/** Serving, and no slot in use: what was cancelled has given its place back. */
export const untilIdle = () =>
  until('0 active', (now) => now.state === 'serving' && now.queue.active === 0 && now.queue.waiting === 0);

/** Runs `action` while new requests wait. */
export async function drained(action) {
  await ctl('drain');
  try {
    return await action();
  } finally {
    await ctl('resume');
    await until('serving', (now) => now.state === 'serving');
  }
}

/** `kill -9`, as the system does it when memory is short. Returns the worker's generation. */
export async function killWorker() {
  const { worker } = await status();
  process.kill(worker.pid, 'SIGKILL');
  return worker.generation;
}

export const newId = () => `conformance-${randomBytes(8).toString('hex')}`;

/** The lines of requests.log about one id, once there are `count`: one for each attempt of the client. */
export async function attempts(id, count = 1) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const log = await readFile(`${home}/logs/requests.log`, 'utf8');
    const lines = log.split('\n').filter((line) => line.includes(` id=${id} `));
    if (lines.length >= count) {
      return lines.map((line) => Object.fromEntries(line.split(' ').map((pair) => pair.split(/=(.*)/s).slice(0, 2))));
    }
    if (Date.now() > end) throw new Error(`waited too long for ${count} lines about ${id}; there are ${lines.length}`);
    await pause(50);
  }
}

/** One attempt, with this outcome, and no second one. */
export async function triedOnce(id, wanted, code) {
  const lines = (await attempts(id)).map((line) => [line.status, line.code]);
  same(lines, [[String(wanted), code]], 'attempts in requests.log');
}

const checks = [];

export function check(name, action) {
  checks.push([name, action]);
}

/** Runs the checks whose name contains an argument of the command line, or all. Returns the exit status. */
export async function runChecks(client) {
  const words = process.argv.slice(2);
  const say = (outcome, name, note) => {
    const text = note ? `: ${String(note).replace(/\s+/g, ' ').slice(0, 600)}` : '';
    console.log(`${outcome.padEnd(4)}  ${client.padEnd(8)}  ${name}${text}`);
  };
  let failed = 0;
  for (const [name, action] of checks) {
    if (words.length && !words.some((word) => name.includes(word))) continue;
    try {
      say('ok', name, await action());
    } catch (error) {
      if (error instanceof Skip) {
        say('skip', name, error.message);
        continue;
      }
      failed = 1;
      const at = /openai_client\.mjs:\d+/.exec(error.stack ?? '');
      say('FAIL', name, `${at ? `${at[0]} ` : ''}${error.name}: ${error.message}`);
    }
  }
  return failed;
}
