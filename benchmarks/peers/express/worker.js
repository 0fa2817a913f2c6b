// Forms to mails with amqplib and nodemailer: one consumer process. `node worker.js`
// It is told everything by AMQP_URL, QUEUE and SMTP_PORT.
import { unlink } from "node:fs/promises";
import { connect } from "amqplib";
import nodemailer from "nodemailer";

const { AMQP_URL, QUEUE, SMTP_PORT } = process.env;
const MAILBOX = "support@company.test";
const CONNECTIONS = 8;

// Twice as many messages as connections, so that none of them waits for the broker.
const PREFETCH = 2 * CONNECTIONS;

const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: Number(SMTP_PORT),
  ignoreTLS: true,
  pool: true,
  maxConnections: CONNECTIONS,
  maxMessages: Infinity,
});
const connection = await connect(AMQP_URL);
const channel = await connection.createChannel();
await channel.assertQueue(QUEUE, { durable: true });
await channel.prefetch(PREFETCH);
const delivering = new Set();
const { consumerTag } = await channel.consume(QUEUE, take);
console.log("ready");
process.on("SIGTERM", stop);

function take(message) {
  if (message === null) return;
  const delivery = deliver(message).finally(() => delivering.delete(delivery));
  delivering.add(delivery);
}

// What is on its way is finished, or it would be sent twice.
async function stop() {
  await channel.cancel(consumerTag);
  await Promise.all(delivering);
  await channel.close();
  await connection.close();
  transport.close();
}

// Sends a form as a mail and acknowledges its message then; what was saved for it goes too.
async function deliver(message) {
  const { id, fields, files } = JSON.parse(message.content);
  try {
    await transport.sendMail({
      from: "forms@company.test",
      to: MAILBOX,
      replyTo: fields.fromAddress,
      subject: fields.subject,
      messageId: `<${id}@company.test>`,
      text: Object.entries(fields).map(([name, value]) => `${name}: ${value}`).join("\n"),
      attachments: files.map(attachment),
    });
  } catch {
    channel.nack(message);
    return;
  }
  channel.ack(message);
  await Promise.all(files.filter((file) => file.path).map((file) => unlink(file.path).catch(() => {})));
}

function attachment({ name, type, content, path }) {
  const about = { filename: name, contentType: type };
  return path ? { ...about, path } : { ...about, content: Buffer.from(content, "base64") };
}
