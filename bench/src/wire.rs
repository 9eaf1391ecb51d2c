//! One client program for both servers: it writes a request whose bytes are ready and reads until the answer is complete.
//!
//! PostgreSQL is asked through a prepared statement (Bind, Execute, Sync), Redis by GET. What is compared is then the servers and
//! their protocols, not the libraries that speak them. A thread per session; no pipelining, as in an application that needs the answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often a session asks before anything is counted: plans are made, pages and code are warm then.
const WARM_UP: usize = 200;

/// How long an answer may take before the server counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens, and what it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    protocol: Protocol,
    socket: PathBuf,
    /// Sent once, each with an answer: what a session begins with.
    opening: Vec<Vec<u8>>,
    /// One of them is sent at a time.
    requests: Vec<Vec<u8>>,
}

/// How the end of an answer is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Postgres,
    Redis,
}

impl Target {
    /// A statement of PostgreSQL, prepared once per session and run with one of `parameters` at a time; with none if it is empty.
    pub(crate) fn postgres(
        socket: &Path,
        database: &str,
        statement: &str,
        parameters: &[String],
    ) -> Self {
        let mut startup = 196_608u32.to_be_bytes().to_vec();
        for text in ["user", "postgres", "database", database] {
            startup.extend(zero_ended(text));
        }
        startup.push(0);
        // The first message has a length and no kind.
        let startup = message(None, &startup);
        let mut parse = zero_ended("s");
        parse.extend(zero_ended(statement));
        parse.extend(0u16.to_be_bytes());
        let mut prepare = message(Some(b'P'), &parse);
        prepare.extend(message(Some(b'S'), &[]));
        let requests = match parameters {
            [] => vec![run(None)],
            some => some.iter().map(|text| run(Some(text))).collect(),
        };
        Target {
            protocol: Protocol::Postgres,
            socket: socket.to_owned(),
            opening: vec![startup, prepare],
            requests,
        }
    }

    /// The values of these keys in Redis.
    pub(crate) fn redis(socket: &Path, keys: &[String]) -> Self {
        Target {
            protocol: Protocol::Redis,
            socket: socket.to_owned(),
            opening: Vec::new(),
            requests: keys.iter().map(|key| command(&["GET", key])).collect(),
        }
    }

    /// Answers per second to so many sessions at once.
    pub(crate) fn rate(&self, sessions: usize, duration: Duration) -> Result<f64> {
        let (stop, start) = (AtomicBool::new(false), Barrier::new(sessions + 1));
        let opened: Vec<Session> = (0..sessions)
            .map(|_| Session::open(self))
            .collect::<Result<_>>()?;
        thread::scope(|scope| {
            let running: Vec<_> = opened
                .into_iter()
                .enumerate()
                .map(|(number, session)| {
                    let (stop, start) = (&stop, &start);
                    scope.spawn(move || {
                        let warm = session.warm_up(&self.requests);
                        // Also who has failed: the others wait for all.
                        start.wait();
                        warm?.ask_until(stop, &self.requests, number)
                    })
                })
                .collect();
            start.wait();
            let begin = Instant::now();
            thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
            let took = begin.elapsed().as_secs_f64();
            let mut answers = 0;
            for session in running {
                answers += session.join().ok().context("a client failed")??;
            }
            Ok(answers as f64 / took)
        })
    }

    /// Asks so often in one session, one request after the other; the process of the server's that answered, if it tells.
    pub(crate) fn ask_in_one_session(&self, times: u32) -> Result<Option<u32>> {
        let mut session = Session::open(self)?;
        for request in self.requests.iter().cycle().take(times as usize) {
            session.ask(request)?;
        }
        Ok(session.process)
    }

    /// Asks in one session as long as `work` takes, which gets the process that answers; how often it asked.
    pub(crate) fn ask_during(&self, work: impl FnOnce(u32) -> Result<()>) -> Result<u64> {
        let session = Session::open(self)?.warm_up(&self.requests)?;
        let process = session
            .process
            .context("the server does not say its process")?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = scope.spawn(|| session.ask_until(&stop, &self.requests, 0));
            let worked = work(process);
            stop.store(true, Ordering::Relaxed);
            let asked = asking.join().ok().context("the client failed")??;
            worked.map(|()| asked)
        })
    }

    /// The value of the first request's answer.
    pub(crate) fn value(&self) -> Result<String> {
        let mut session = Session::open(self)?;
        let request = self.requests.first().context("nothing is asked")?;
        let length = session.ask(request)?;
        let answer = &session.buffer[..length];
        let value = match self.protocol {
            Protocol::Postgres => column(answer),
            Protocol::Redis => bulk(answer),
        };
        let value = value.with_context(|| {
            format!(
                "no value in the answer {:?}",
                String::from_utf8_lossy(answer)
            )
        })?;
        Ok(String::from_utf8_lossy(value).into_owned())
    }
}

/// Sends commands to Redis, each of which has to be answered by OK.
pub(crate) fn redis_commands<'a>(
    socket: &Path,
    commands: impl IntoIterator<Item = [&'a str; 3]>,
) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 5];
    for words in commands {
        stream.write_all(&command(&words))?;
        stream.read_exact(&mut answer)?;
        ensure!(
            &answer == b"+OK\r\n",
            "Redis does not answer OK to {} {}",
            words[0],
            words[1]
        );
    }
    Ok(())
}

/// A connection, with a place for its answers.
struct Session {
    stream: UnixStream,
    protocol: Protocol,
    buffer: Vec<u8>,
    /// The process that serves it, which PostgreSQL tells in the beginning.
    process: Option<u32>,
}

impl Session {
    fn open(target: &Target) -> Result<Self> {
        let stream = UnixStream::connect(&target.socket)
            .with_context(|| format!("cannot connect to {}", target.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Session {
            stream,
            protocol: target.protocol,
            buffer: vec![0; 1 << 16],
            process: None,
        };
        for request in &target.opening {
            let length = session.ask(request)?;
            session.process = session.process.or(process(&session.buffer[..length]));
        }
        Ok(session)
    }

    /// Sends a request and returns how long its answer is, which is in the buffer then.
    fn ask(&mut self, request: &[u8]) -> Result<usize> {
        self.stream.write_all(request)?;
        let mut answer = Answer::default();
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "the server has closed the connection");
            filled += read;
            if answer.complete(self.protocol, &self.buffer[..filled])? {
                return Ok(filled);
            }
        }
    }

    fn warm_up(mut self, requests: &[Vec<u8>]) -> Result<Self> {
        for request in requests.iter().cycle().take(WARM_UP) {
            self.ask(request)?;
        }
        Ok(self)
    }

    /// Asks one of the requests after the other, in an order without a pattern, until it is to stop; how often it asked.
    fn ask_until(mut self, stop: &AtomicBool, requests: &[Vec<u8>], number: usize) -> Result<u64> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let request = &requests[(random % requests.len() as u64) as usize];
            self.ask(request)?;
            asked += 1;
        }
        Ok(asked)
    }
}

/// How far an answer has been understood.
#[derive(Default)]
struct Answer {
    /// Where the next message of PostgreSQL begins.
    next: usize,
}

impl Answer {
    /// Whether the bytes received so far are all; an error if the server reports one.
    fn complete(&mut self, protocol: Protocol, received: &[u8]) -> Result<bool> {
        match protocol {
            Protocol::Postgres => {
                while let Some((kind, body)) = received.get(self.next..).and_then(first_message) {
                    self.next += 5 + body.len();
                    match kind {
                        b'E' => bail!("PostgreSQL: {}", String::from_utf8_lossy(body)),
                        b'Z' => return Ok(true),
                        _ => (),
                    }
                }
                Ok(false)
            }
            Protocol::Redis => {
                let Some(end) = received.windows(2).position(|two| two == b"\r\n") else {
                    return Ok(false);
                };
                let line = String::from_utf8_lossy(&received[..end]);
                let length: Option<usize> = line.strip_prefix('$').and_then(|n| n.parse().ok());
                let length = length.with_context(|| format!("Redis: {line}"))?;
                Ok(received.len() >= end + 2 + length + 2)
            }
        }
    }
}

/// Kind and body of the first message, if it is all there.
fn first_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    Some((bytes[0], bytes.get(5..1 + length)?))
}

/// The body of the first message of this kind.
fn message_of(wanted: u8, mut answer: &[u8]) -> Option<&[u8]> {
    loop {
        let (kind, body) = first_message(answer)?;
        if kind == wanted {
            return Some(body);
        }
        answer = &answer[5 + body.len()..];
    }
}

/// The first column of the first row in an answer of PostgreSQL.
fn column(answer: &[u8]) -> Option<&[u8]> {
    let row = message_of(b'D', answer)?;
    let length = u32::from_be_bytes(row.get(2..6)?.try_into().ok()?) as usize;
    row.get(6..6 + length)
}

/// The process that a session is told of, with the key to cancel what it does.
fn process(answer: &[u8]) -> Option<u32> {
    let key_data = message_of(b'K', answer)?;
    Some(u32::from_be_bytes(key_data.get(..4)?.try_into().ok()?))
}

/// The value in a complete answer of Redis.
fn bulk(answer: &[u8]) -> Option<&[u8]> {
    let begin = answer.windows(2).position(|two| two == b"\r\n")? + 2;
    answer.get(begin..answer.len() - 2)
}

/// Bind, Execute and Sync of the prepared statement.
fn run(parameter: Option<&String>) -> Vec<u8> {
    let mut bind = zero_ended("");
    bind.extend(zero_ended("s"));
    // No formats: everything is text.
    bind.extend(0u16.to_be_bytes());
    match parameter {
        None => bind.extend(0u16.to_be_bytes()),
        Some(text) => {
            bind.extend(1u16.to_be_bytes());
            bind.extend((text.len() as u32).to_be_bytes());
            bind.extend(text.as_bytes());
        }
    }
    bind.extend(0u16.to_be_bytes());
    let mut execute = zero_ended("");
    execute.extend(0u32.to_be_bytes());
    let mut request = message(Some(b'B'), &bind);
    request.extend(message(Some(b'E'), &execute));
    request.extend(message(Some(b'S'), &[]));
    request
}

fn message(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = kind.into_iter().collect();
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn zero_ended(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A command of Redis.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an answer is complete after each of its bytes.
    fn completeness(protocol: Protocol, bytes: &[u8]) -> Vec<bool> {
        let mut answer = Answer::default();
        (1..=bytes.len())
            .map(|length| answer.complete(protocol, &bytes[..length]).unwrap())
            .collect()
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let mut row = vec![0, 1, 0, 0, 0, 3];
        row.extend(b"abc");
        let mut postgres = message(Some(b'2'), &[]);
        postgres.extend(message(Some(b'D'), &row));
        postgres.extend(message(Some(b'Z'), b"I"));
        for (protocol, bytes) in [
            (Protocol::Postgres, postgres.as_slice()),
            (Protocol::Redis, b"$3\r\nabc\r\n".as_slice()),
        ] {
            let complete = completeness(protocol, bytes);
            let (last, before) = complete.split_last().unwrap();
            assert!(
                *last && before.iter().all(|complete| !complete),
                "{protocol:?}"
            );
        }
        assert_eq!(column(&postgres), Some(b"abc".as_slice()));
        assert_eq!(bulk(b"$3\r\nabc\r\n"), Some(b"abc".as_slice()));
    }

    #[test]
    fn errors_are_errors() {
        let error = message(Some(b'E'), b"SERROR");
        let complete = |protocol, bytes: &[u8]| Answer::default().complete(protocol, bytes);
        assert!(complete(Protocol::Postgres, &error).is_err());
        assert!(complete(Protocol::Redis, b"-ERR no\r\n").is_err());
        // A key that is not there: what is measured then is not what was meant.
        assert!(complete(Protocol::Redis, b"$-1\r\n").is_err());
    }

    #[test]
    fn a_command_says_how_long_its_words_are() {
        assert_eq!(
            command(&["GET", "key"]),
            b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
        );
    }
}
