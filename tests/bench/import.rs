//! `cargo bench --bench import`: `sessile import` into an empty file beside what the stock `sqlite3` takes for the same
//! rows, in rounds.
//!
//! The other side is `.import` of the CSV into a table in memory, then one INSERT…SELECT into the table of
//! schema.sql. Both sides have the index in place from the beginning, the same page cache, and end with everything
//! in the file itself. The CSV has instants as numbers, so that nobody has to convert them. These machines are
//! shared and noisy: what counts is the median over the rounds of the ratio within a round. Processor time, that of
//! the thread that parses beside the one that writes included, says how much of a ratio is somebody else's doing.
//!
//!     cargo bench --bench import                                    1,000,000 rows, 5 rounds
//!     cargo bench --bench import -- --rows 10000000 --rounds 1      memory at another size
//!     cargo bench --bench import -- --folder /dev/shm               without waiting for a disk

#![allow(clippy::print_stdout, reason = "what a benchmark is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no figures")]

mod figures;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use figures::median;
use sessile::store::writer::create;
use sessile::time::Timestamp;

/// What to measure.
struct Options {
    rows: u64,
    rounds: usize,
    folder: PathBuf,
}

/// What starts a side on an empty file.
type Start<'s> = &'s dyn Fn(&Path) -> Child;

fn main() {
    let options = options();
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let csv = folder.path().join("sessions.csv");
    let ndjson = folder.path().join("sessions.ndjson");
    println!("writing {} rows, as CSV and as NDJSON", options.rows);
    write(&csv, &ndjson, options.rows);
    let sides: [(&str, Start<'_>); 3] = [
        ("sqlite3 .import + INSERT…SELECT", &|database| {
            sqlite3(database, &csv)
        }),
        ("sessile import, CSV", &|database| sessile(database, &csv)),
        ("sessile import, NDJSON", &|database| {
            sessile(database, &ndjson)
        }),
    ];

    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for round in 1..=options.rounds {
        let mut figures = Vec::new();
        for (_, start) in &sides {
            let database = folder.path().join("bench.db");
            create(&database).unwrap();
            figures.push(measure(|| start(&database)));
            verify(&database, options.rows);
            for suffix in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(format!("{}{suffix}", database.display()));
            }
        }
        let shown: Vec<String> = figures
            .iter()
            .map(|figure| {
                format!(
                    "{:.2} s ({:.2}), {:.2} s of processor",
                    figure.seconds,
                    figures[0].seconds / figure.seconds,
                    figure.processor
                )
            })
            .collect();
        println!("round {round}: {}", shown.join("; "));
        rounds.push(figures);
    }

    println!(
        "\nmedians of {} rounds, {} rows; the ratio is that of speeds within a round\n",
        options.rounds, options.rows
    );
    println!("| | rows/s | of sqlite3 | processor | peak RSS |");
    println!("| --- | --- | --- | --- | --- |");
    for (index, (name, _)) in sides.iter().enumerate() {
        let speed = median(
            rounds
                .iter()
                .map(|round| options.rows as f64 / round[index].seconds),
        );
        let ratio = median(
            rounds
                .iter()
                .map(|round| round[0].seconds / round[index].seconds),
        );
        let processor = median(rounds.iter().map(|round| round[index].processor));
        let memory = median(rounds.iter().map(|round| round[index].memory as f64 / 1e6));
        println!("| {name} | {speed:.0} | {ratio:.2} | {processor:.1} s | {memory:.0} MB |");
    }
}

fn options() -> Options {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let mut options = Options {
        rows: 1_000_000,
        rounds: 5,
        folder: std::env::temp_dir(),
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            panic!("{pair:?} has no value")
        };
        match name.as_str() {
            "--rows" => options.rows = value.parse().unwrap(),
            "--rounds" => options.rounds = value.parse().unwrap(),
            "--folder" => options.folder = value.into(),
            _ => panic!("{name:?} is none of --rows, --rounds and --folder"),
        }
    }
    options
}

const COLUMNS: &str = "id,tenant_id,user_id,status,created_at,authenticated_at,last_active_at,expires_at,\
                       idle_expires_at,revoked_at,revoke_reason,amr,device_id,device_type,ip,user_agent,geoip";

/// Ten sessions a user in three tenants, with random ids as real ones have, three of ten ended.
fn write(csv: &Path, ndjson: &Path, rows: u64) {
    let mut csv = BufWriter::new(File::create(csv).unwrap());
    let mut ndjson = BufWriter::new(File::create(ndjson).unwrap());
    writeln!(csv, "{COLUMNS}").unwrap();
    let now = 1_795_435_200_000i64;
    for row in 0..rows {
        let random = scramble(row);
        let user = scramble(row / 10 + rows);
        let tenant = ["acme", "globex", "tnt_xyz789"][(user % 3) as usize];
        let created = now - (random % 2_592_000_000).cast_signed();
        let active = created + (random % 3_600_000).cast_signed();
        let (expires, idle) = (created + 2_592_000_000, active + 1_800_000);
        let device = random % 0xff_ffff;
        let ip = format!(
            "10.{}.{}.{}",
            device % 256,
            device / 256 % 256,
            random % 251
        );
        let agent = "Mozilla/5.0 (X11; Linux x86_64)";
        let (status, revoked, reason) = match row % 10 {
            0..3 => ("revoked", Some(active + 60_000), "logout"),
            _ => ("active", None, ""),
        };
        writeln!(
            csv,
            "sess_{random:016x},{tenant},usr_{user:012x},{status},{created},{created},{active},{expires},{idle},{},\
             {reason},\"password,totp\",dev_{device:06x},desktop,{ip},{agent},\"Beijing, CN\"",
            revoked.map_or(String::new(), |revoked: i64| revoked.to_string()),
        )
        .unwrap();
        let instant = Timestamp::from_millis;
        let end = revoked.map_or(String::new(), |revoked| {
            format!(
                "\"revoked_at\":\"{}\",\"revoke_reason\":\"{reason}\",",
                instant(revoked)
            )
        });
        writeln!(
            ndjson,
            "{{\"id\":\"sess_{random:016x}\",\"tenant_id\":\"{tenant}\",\"user_id\":\"usr_{user:012x}\",\
             \"status\":\"{status}\",\"created_at\":\"{}\",\"authenticated_at\":\"{}\",\"last_active_at\":\"{}\",\
             \"expires_at\":\"{}\",\"idle_expires_at\":\"{}\",{end}\"amr\":\"password,totp\",\
             \"device_id\":\"dev_{device:06x}\",\"device_type\":\"desktop\",\"ip\":\"{ip}\",\"user_agent\":\"{agent}\",\
             \"geoip\":\"Beijing, CN\"}}",
            instant(created),
            instant(created),
            instant(active),
            instant(expires),
            instant(idle),
        )
        .unwrap();
    }
    csv.flush().unwrap();
    ndjson.flush().unwrap();
}

/// A bijection that looks random: the finalizer of SplitMix64.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn sessile(database: &Path, input: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sessile"))
        .args(["import", "--config", "/dev/null", "--database"])
        .args([database, input])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn sqlite3(database: &Path, csv: &Path) -> Child {
    let optional: String = COLUMNS
        .split(',')
        .skip(4)
        .map(|column| format!(", nullif({column}, '')"))
        .collect();
    let names = COLUMNS.replace("status,", "");
    let script = format!(
        "PRAGMA temp_store = MEMORY;\n\
         PRAGMA cache_size = -262144;\n\
         PRAGMA synchronous = FULL;\n\
         CREATE TEMP TABLE input ({COLUMNS});\n\
         .import --csv --skip 1 --schema temp {} input\n\
         INSERT INTO session ({names}) SELECT id, tenant_id, user_id{optional} FROM input;\n",
        csv.display()
    );
    let script_file = database.with_extension("sql");
    fs::write(&script_file, script).unwrap();
    Command::new("sqlite3")
        .arg("-bail")
        .arg(database)
        .stdin(File::open(script_file).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .expect("the stock sqlite3 is needed to compare with")
}

struct Figures {
    seconds: f64,
    /// In seconds, over all threads.
    processor: f64,
    /// In bytes.
    memory: u64,
}

fn measure(start: impl FnOnce() -> Child) -> Figures {
    let begun = Instant::now();
    let mut child = start();
    let (mut processor, mut memory) = (0.0f64, 0);
    loop {
        processor = processor.max(processor_time(child.id()).unwrap_or(0.0));
        memory = memory.max(peak_memory(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return Figures {
                seconds: begun.elapsed().as_secs_f64(),
                processor,
                memory,
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The time that its threads, those that have ended included, have run, in seconds. The kernel tells it in hundredths:
/// fields 14 and 15 of proc_pid_stat(5), of which field 2 may have blanks.
fn processor_time(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks = behind_name.split_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// The most resident memory so far, mapped files included, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn verify(database: &Path, rows: u64) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let found: i64 = connection
        .query_row("SELECT count(*) FROM session", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, i64::try_from(rows).unwrap());
}
