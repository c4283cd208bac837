// Reads a message with Foxglove's reader, writes what it read with Foxglove's writer, and says both.
//
// On stdin, a JSON object a line: {"definition": a .msg with what it needs, "hex": a message in CDR}.
// On stdout, for each: {"value": what was read, "hex": the same in CDR as Foxglove writes it}.
"use strict";
const { createInterface } = require("node:readline");
const { parse } = require("@foxglove/rosmsg");
const { MessageReader, MessageWriter } = require("@foxglove/rosmsg2-serialization");

const codecs = new Map();
function codec(definition) {
  if (!codecs.has(definition)) {
    const parsed = parse(definition, { ros2: true });
    codecs.set(definition, [new MessageReader(parsed), new MessageWriter(parsed)]);
  }
  return codecs.get(definition);
}

// What JSON has no number for becomes a string, and typed arrays become lists.
function plain(_key, value) {
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (Object.is(value, -0)) return "-0";
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  return ArrayBuffer.isView(value) ? Array.from(value) : value;
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const { definition, hex } = JSON.parse(line);
  const [reader, writer] = codec(definition);
  const value = reader.readMessage(Buffer.from(hex, "hex"));
  const written = Buffer.from(writer.writeMessage(value)).toString("hex");
  process.stdout.write(JSON.stringify({ value, hex: written }, plain) + "\n");
});
