// Counts what holds, prints what does not, and ends as the test runner expects.

let passed = 0;
let failed = 0;

export function check(what: string, seen: unknown, expected: unknown): void {
  if (JSON.stringify(seen) === JSON.stringify(expected)) {
    passed += 1;
  } else {
    failed += 1;
    console.log(`FAILED: ${what}: ${JSON.stringify(seen)}, not ${JSON.stringify(expected)}`);
  }
}

export function end(): void {
  console.log(`${passed} passed, ${failed} failed, 0 skipped`);
  process.exitCode = failed ? 1 : 0;
}

declare const process: { argv: string[]; exitCode: number };

export const base = process.argv[2] ?? "";

// JSON.parse would alter it: read and sent as text it comes back.
export const EXACT = '{"data":{"n":9007199254740993,"x":1.0}}';

// What is neither a success nor described.
export const NOT_FOUND = "urn:tidepool:problem:document-not-found";
