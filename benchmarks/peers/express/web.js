// Forms to mails with Express, multer and amqplib: the web processes. `node web.js`
// It is told everything by PORT, AMQP_URL, QUEUE and FILES, the folder that it shares with worker.js.
import cluster from "node:cluster";
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { connect } from "amqplib";
import express from "express";
import multer from "multer";

const { PORT, AMQP_URL, QUEUE, FILES } = process.env;
const FIELDS = ["firstName", "lastName", "fromAddress", "subject", "text"];
const PROCESSES = 2;

// Bytes of a file that still travel in the message; larger ones would crowd the broker's memory.
const LARGEST_IN_MESSAGE = 1 << 20;

if (cluster.isPrimary) {
  for (let number = 0; number < PROCESSES; number++) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
  });
} else {
  await serve();
}

async function serve() {
  const connection = await connect(AMQP_URL);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(QUEUE, { durable: true });
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  const urlencoded = express.urlencoded({ extended: false, limit: "1mb" });
  const multipart = multer({ storage: multer.memoryStorage() }).any();
  app.post("/genesys/2/email/support", urlencoded, multipart, async (request, response) => {
    const id = randomUUID();
    const fields = Object.fromEntries(FIELDS.map((name) => [name, request.body?.[name] ?? ""]));
    const files = await Promise.all((request.files ?? []).map(kept));
    await publish(channel, { id, fields, files });
    response.json({ statusCode: 0, interactionId: id });
  });
  app.listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
}

// What a message says about a file: its content, or where it was saved.
async function kept({ originalname, mimetype, buffer }) {
  const about = { name: originalname, type: mimetype };
  if (buffer.length <= LARGEST_IN_MESSAGE) return { ...about, content: buffer.toString("base64") };
  const saved = path.join(FILES, randomUUID());
  await writeFile(saved, buffer);
  return { ...about, path: saved };
}

// Resolves once the broker has confirmed the persistent message.
function publish(channel, submission) {
  return new Promise((resolve, reject) => {
    const body = Buffer.from(JSON.stringify(submission));
    channel.sendToQueue(QUEUE, body, { persistent: true }, (error) => (error ? reject(error) : resolve()));
  });
}
