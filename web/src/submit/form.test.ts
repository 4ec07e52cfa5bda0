import { expect, test } from 'vitest';
import type { Command } from '../api/types';
import { duplicateKeys, emptyForm, formFieldOf, toForm, toSubmitBody } from './form';

test('only fields that are filled in are sent', () => {
  expect(toSubmitBody({ ...emptyForm(), script: 'true' })).toEqual({ script: 'true' });
});

test('numbers are sent as numbers, other text as typed', () => {
  const form = { ...emptyForm(), script: 'x', timeout_seconds: ' 1.5 ', priority: '-3', grace_seconds: 'ten' };
  expect(toSubmitBody(form)).toEqual({ script: 'x', timeout_seconds: 1.5, priority: -3, grace_seconds: 'ten' });
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
