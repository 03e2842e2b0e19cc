// Logs predictions with fetch: node log.mjs. Node 20 or newer, Deno, Bun; in a browser the key would be everybody's.
const { PREDLOG_URL = "http://localhost:8000", PREDLOG_API_KEY = "" } = process.env;

export async function send(records, triesLeft = 5) {
  const headers = { "Content-Type": "application/json", "X-API-Key": PREDLOG_API_KEY };
  const body = JSON.stringify(records.map((record) => ({ request_id: crypto.randomUUID(), ...record })));
  for (;;) {
    const answer = await fetch(`${PREDLOG_URL}/api/v1/predict-logs`, { method: "POST", headers, body }).catch(() => null);
    if (answer && ![429, 503].includes(answer.status)) return answer.json();
    if (--triesLeft === 0) throw new Error(`Predlog answers ${answer ? answer.status : "nothing"}`);
    await new Promise((resume) => setTimeout(resume, 1000 * Number(answer?.headers.get("Retry-After") ?? 1)));
  }
}

const began = performance.now(), timestamp = new Date().toISOString();
const record = { model_name: "apartment_price", model_version: "3", was_successful: true, timestamp };
console.log(await send([{ ...record, duration_ms: performance.now() - began }]));
