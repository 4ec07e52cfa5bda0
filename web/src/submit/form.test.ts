import { expect, test } from 'vitest';
import type { Command } from '../api/types';
import { duplicateKeys, emptyForm, FORM_FIELDS, type Form, formFieldOf, formFrom, problemsOf, toForm, toSubmitBody, usesMoreOptions } from './form';

test('only fields that are filled in are sent', () => {
  expect(toSubmitBody({ ...emptyForm(), script: 'true' })).toEqual({ script: 'true' });
});

test('durations, sizes and words are sent as the API wants them', () => {
  const form = {
    ...emptyForm(),
    script: 'x',
    timeout_seconds: ' 1.5 ',
    queue_timeout_seconds: '2h',
    priority: '−3',
    output_limit_bytes: '10 GiB',
    interpreter: "/usr/bin/python3 -u 'a b'",
  };
  expect(toSubmitBody(form)).toEqual({
    script: 'x',
    timeout_seconds: 1.5,
    queue_timeout_seconds: 7200,
    priority: -3,
    output_limit_bytes: 10_737_418_240,
    interpreter: ['/usr/bin/python3', '-u', 'a b'],
  });
  expect(toSubmitBody({ ...emptyForm(), script: 'x', output_limit_bytes: 'none' })).toEqual({ script: 'x', output_limit_bytes: null });
});

test('a form says what is wrong with it', () => {
  const form = {
    ...emptyForm(),
    labels: [{ key: 'a', value: '1' }, { key: 'a', value: '2' }],
    grace_seconds: 'ten',
    output_limit_bytes: 'much',
    interpreter: "'sh",
  };
  expect([...problemsOf(form).keys()]).toEqual(['labels', 'grace_seconds', 'output_limit_bytes', 'interpreter']);
  expect(problemsOf(form).get('grace_seconds')).toBe('Write a duration as 90, 90s, 5m or 2h.');
  expect(problemsOf(emptyForm()).size).toBe(0);
});

/** A form with input, limits and a concurrency key. */
const FULL: Form = {
  ...emptyForm(),
  script: 'x',
  interactive: 'pty',
  pty: { rows: '50', cols: '132' },
  limits: { cpu_seconds: '5m', memory_bytes: '512M', processes: '64', open_files: '1024', nice: '0' },
  concurrency: { key: 'db', limit: '2', when_busy: 'replace' },
};

test('input, limits and the concurrency key are sent as the API wants them', () => {
  expect(toSubmitBody(FULL)).toEqual({
    script: 'x',
    pty: { rows: 50, cols: 132 },
    limits: { cpu_seconds: 300, memory_bytes: 536_870_912, processes: 64, open_files: 1024, nice: 0 },
    concurrency: { key: 'db', limit: 2, when_busy: 'replace' },
  });
  const lines: Form = { ...emptyForm(), script: 'x', interactive: 'yes', concurrency: { key: 'db', limit: '', when_busy: 'queue' } };
  expect(toSubmitBody(lines)).toEqual({ script: 'x', interactive: true, concurrency: { key: 'db' } });
  expect(formFrom(JSON.parse(JSON.stringify(FULL)))).toEqual(FULL);
  expect([FULL, lines, emptyForm()].map(usesMoreOptions)).toEqual([true, true, false]);
});

test('a form says what is wrong with a limit, a size or a key', () => {
  const form: Form = {
    ...FULL,
    pty: { rows: '', cols: 'wide' },
    limits: { cpu_seconds: 'long', memory_bytes: 'none', processes: 'few', open_files: '', nice: 'very' },
    concurrency: { key: '', limit: '2', when_busy: 'queue' },
  };
  const wrong = [...problemsOf(form).keys()];
  expect(wrong).toEqual(
    ['pty.rows', 'pty.cols', 'limits.cpu_seconds', 'limits.memory_bytes', 'limits.processes', 'limits.nice', 'concurrency.key'],
  );
  expect(wrong.filter((field) => !FORM_FIELDS.has(field))).toEqual([]);
  // The size counts only for a terminal.
  expect(problemsOf({ ...emptyForm(), pty: { rows: '', cols: '' } }).size).toBe(0);
});

test('a stored form is only read if it is whole', () => {
  const form = { ...emptyForm(), script: 'x', args: [''], env: [{ key: 'A', value: '' }] };
  expect(formFrom(JSON.parse(JSON.stringify(form)))).toEqual(form);
  const { host: _, ...older } = form;
  const { nice: __, ...fewer } = form.limits;
  for (const other of [null, 'text', [], older, { ...form, args: [1] }, { ...form, env: [null] }, { ...form, interpreter: [] }, { ...form, limits: fewer }]) {
    expect(formFrom(other)).toBeNull();
  }
});

test('edit and run submits the same command again', () => {
  const command = {
    script: 'echo "$1"',
    name: 'n',
    labels: { team: 'db' },
    interpreter: ['/bin/bash'],
    args: ['', 'b'],
    env: { A: '' },
    working_directory: 'private',
    timeout_seconds: 3600,
    queue_timeout_seconds: null,
    grace_seconds: 10,
    leftover_seconds: 0,
    output_limit_bytes: 5,
    on_output_limit: 'stop',
    priority: 0,
    host: 'alpha',
    interactive: true,
    pty: { rows: 50, cols: 132 },
    limits: { cpu_seconds: 90, memory_bytes: 4 << 20, nice: 0 },
    concurrency: { key: 'db', limit: 1, when_busy: 'reject' },
  } as unknown as Command;
  expect(toSubmitBody(toForm({ ...command, pty: null, limits: null, concurrency: null }))).toMatchObject({ interactive: true });
  expect(toSubmitBody(toForm(command))).toEqual({
    script: 'echo "$1"',
    name: 'n',
    labels: { team: 'db' },
    args: ['', 'b'],
    env: { A: '' },
    working_directory: 'private',
    timeout_seconds: 3600,
    leftover_seconds: 0,
    output_limit_bytes: 5,
    on_output_limit: 'stop',
    pty: { rows: 50, cols: 132 },
    limits: { cpu_seconds: 90, memory_bytes: 4 << 20, nice: 0 },
    concurrency: { key: 'db', when_busy: 'reject' },
  });
});

test('errors belong to fields, and duplicate keys are found', () => {
  expect(formFieldOf('labels.team')).toBe('labels');
  expect(formFieldOf('script')).toBe('script');
  expect(formFieldOf('limits.nice')).toBe('limits.nice');
  expect(duplicateKeys([{ key: 'a', value: '1' }, { key: 'a', value: '2' }, { key: '', value: '' }])).toEqual(['a']);
});
