// The books of each partition, which the live state does not carry: asked of the API while somebody looks.

import { address } from "../root.js";
import { requestRender } from "../schedule.js";

const AGAIN_MS = 3000;

export const books = { partitions: null, problem: null };

let asking = false;
let askedAt = 0;
let of = null;

// Asks again when the totals have moved, and not too often.
export function keepBooks(accounting) {
  if (asking || of === accounting || Date.now() - askedAt < AGAIN_MS) return;
  ask(accounting);
}

async function ask(accounting) {
  asking = true;
  askedAt = Date.now();
  try {
    const answer = await fetch(address("api/v1/accounting"));
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error ?? `HTTP ${answer.status}`);
    books.partitions = body.partitions;
    books.problem = null;
    of = accounting;
  } catch (error) {
    books.problem = error.message;
  }
  asking = false;
  requestRender();
}
