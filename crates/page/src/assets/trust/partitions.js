// The books of each partition. They are not in the live state, so they are fetched from the API while shown.

import { address } from "../root.js";
import { requestRender } from "../schedule.js";

const AGAIN_MS = 3000;

export const books = { partitions: null, problem: null };

let asking = false;
let askedAt = 0;
let of = null;

// Fetches again when the totals change, but not too often.
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
