//! client TENANT USER: ends with 0 if the user has an active session, with 1 if not, with 2 if nobody knows.
//! Wants the crates reqwest (features "blocking" and "json"), serde_json and percent-encoding.

use std::{env, process, thread, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::blocking::Client;
use serde_json::Value;

/// Whether there is an active session, or why nobody knows.
fn is_active(client: &Client, base: &str, key: &str, tenant: &str, user: &str) -> Result<bool, String> {
    let user = utf8_percent_encode(user, NON_ALPHANUMERIC);
    let url = format!("{base}/internal/session/sessions/{user}/active");
    let mut reason = String::new();
    for left in (0..3).rev() {
        let request = client.get(&url).header("X-API-Key", key).header("X-Tenant-ID", tenant);
        let pause = match request.send() {
            // A question changes nothing: it may be asked again.
            Err(error) => {
                reason = error.to_string();
                Duration::from_millis(100)
            }
            Ok(response) => {
                let status = response.status().as_u16();
                let after = response.headers().get("Retry-After").cloned();
                let body: Value = response.json().map_err(|error| error.to_string())?;
                if status == 200 {
                    return body["active"].as_bool().ok_or_else(|| body.to_string());
                }
                reason = format!("{status} {} ({})", body["detail"], body["request_id"]);
                if !matches!(status, 429 | 503) {
                    break; // asked again it would fail the same way
                }
                let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
                Duration::from_secs(after.unwrap_or(1).min(2))
            }
        };
        if left > 0 {
            thread::sleep(pause);
        }
    }
    Err(reason)
}

fn main() {
    let variable = |name| env::var(name).expect(name);
    let client = Client::builder()
        .connect_timeout(Duration::from_millis(500))
        .timeout(Duration::from_secs(2))
        .build()
        .expect("a client");
    let args: Vec<String> = env::args().collect();
    let (base, key) = (variable("SESSILE_URL"), variable("SESSILE_KEY"));
    process::exit(match is_active(&client, &base, &key, &args[1], &args[2]) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(reason) => {
            eprintln!("{reason}");
            2
        }
    });
}
