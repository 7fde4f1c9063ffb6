// An alert's address on the page, and its state in words.

export const STATES = [["", "All alerts"], ["open", "Active"], ["held", "Held"], ["closed", "Closed"]];

export const alertUrl = (id) => `#/alerts/${encodeURIComponent(id)}`;

/** Verdict and words of a record's state. */
export function stateOf(record) {
  if (record.state === "open") return ["alert", record.acknowledged_at ? "Active, acknowledged" : "Active"];
  if (record.state === "held") return ["held", "Held"];
  return record.acknowledged_at ? ["ok", "Acknowledged"] : ["past", "Closed"];
}
