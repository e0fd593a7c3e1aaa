/** All faults of the engine by their numbers. */
import { cronFaults } from './cases-cron.ts';
import { databaseFaults } from './cases-database.ts';
import { doorbellFaults } from './cases-doorbell.ts';
import { workerFaults } from './cases-worker.ts';
import type { Fault } from './harness.ts';

export const faults: readonly Fault[] = [
  ...cronFaults,
  ...doorbellFaults,
  ...workerFaults,
  ...databaseFaults,
];
