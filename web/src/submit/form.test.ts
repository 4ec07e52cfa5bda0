import { expect, test } from 'vitest';
import type { Command } from '../api/types';
import { duplicateKeys, emptyForm, formFieldOf, formFrom, problemsOf, toForm, toSubmitBody } from './form';

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

test('a stored form is only read if it is whole', () => {
  const form = { ...emptyForm(), script: 'x', args: [''], env: [{ key: 'A', value: '' }] };
  expect(formFrom(JSON.parse(JSON.stringify(form)))).toEqual(form);
  const { host: _, ...older } = form;
  for (const other of [null, 'text', [], older, { ...form, args: [1] }, { ...form, env: [null] }, { ...form, interpreter: [] }]) {
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
  } as unknown as Command;
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
  });
});

test('errors belong to fields, and duplicate keys are found', () => {
  expect(formFieldOf('labels.team')).toBe('labels');
  expect(formFieldOf('script')).toBe('script');
  expect(duplicateKeys([{ key: 'a', value: '1' }, { key: 'a', value: '2' }, { key: '', value: '' }])).toEqual(['a']);
});
