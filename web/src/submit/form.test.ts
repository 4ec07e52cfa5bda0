import { expect, test } from 'vitest';
import type { Command } from '../api/types';
import { bodyOf, duplicates, emptyForm, fieldOf, formOf } from './form';

test('only what is filled in is sent', () => {
  expect(bodyOf({ ...emptyForm(), script: 'true' })).toEqual({ script: 'true' });
});

test('numbers are sent as numbers, and what is none as it was typed', () => {
  const form = { ...emptyForm(), script: 'x', timeout_seconds: ' 1.5 ', priority: '-3', grace_seconds: 'ten' };
  expect(bodyOf(form)).toEqual({ script: 'x', timeout_seconds: 1.5, priority: -3, grace_seconds: 'ten' });
});

test('edit and run submits the same again', () => {
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
  expect(bodyOf(formOf(command))).toEqual({
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

test('errors and doubles are found at their field', () => {
  expect(fieldOf('labels.team')).toBe('labels');
  expect(fieldOf('script')).toBe('script');
  expect(duplicates([{ key: 'a', value: '1' }, { key: 'a', value: '2' }, { key: '', value: '' }])).toEqual(['a']);
});
