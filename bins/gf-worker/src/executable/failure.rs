//! What is said of a program that failed.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use goflow_core::HandlerError;

/// The exit code of a program whose payload no attempt can make sense of: `EX_DATAERR` of `sysexits.h`.
const PERMANENT: i32 = 65;

/// The exit code of a program that wants to be called again later: `EX_TEMPFAIL` of `sysexits.h`.
const SNOOZE: i32 = 75;

/// How much later.
const SNOOZE_FOR: Duration = Duration::from_secs(60);

/// Whether the attempt had to end before the program was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedEarly {
    No,
    Yes,
}

/// The failure of a program that ended with `status`.
pub(super) fn failure(status: ExitStatus, early: EndedEarly, stderr: &str) -> HandlerError {
    let code = status.code().filter(|_| early == EndedEarly::No);
    if code == Some(SNOOZE) {
        return HandlerError::snooze(SNOOZE_FOR);
    }
    let failed = match code {
        Some(PERMANENT) => |message: String| HandlerError::permanent(message),
        _ => |message: String| HandlerError::retry(message),
    };
    let how = match (early, status.signal(), status.code()) {
        (EndedEarly::Yes, ..) => {
            "ended before it was done: cancelled, out of time or its worker had to go".to_owned()
        }
        (EndedEarly::No, Some(signal), _) => format!("killed by {}", signal_name(signal)),
        // What the program says of itself is the error; the bare status only when it says nothing.
        (EndedEarly::No, None, Some(_)) if !stderr.is_empty() => {
            return failed(stderr.to_owned());
        }
        (EndedEarly::No, None, Some(code)) => format!("exit status {code}"),
        (EndedEarly::No, None, None) => status.to_string(),
    };
    if stderr.is_empty() {
        failed(how)
    } else {
        failed(format!("{how}: {stderr}"))
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named() {
        let say = |raw, early, stderr| failure(ExitStatus::from_raw(raw), early, stderr);
        assert_eq!(
            say(3 << 8, EndedEarly::No, ""),
            HandlerError::retry("exit status 3")
        );
        assert_eq!(
            say(3 << 8, EndedEarly::No, "no paper"),
            HandlerError::retry("no paper")
        );
        assert_eq!(
            say(65 << 8, EndedEarly::No, "no such paper"),
            HandlerError::permanent("no such paper")
        );
        assert_eq!(
            say(65 << 8, EndedEarly::No, ""),
            HandlerError::permanent("exit status 65")
        );
        assert_eq!(
            say(75 << 8, EndedEarly::No, "busy"),
            HandlerError::snooze(Duration::from_secs(60))
        );
        for code in [65, 75] {
            let text = format!("{:?}", say(code << 8, EndedEarly::Yes, ""));
            assert!(
                text.contains("before it was done") && text.contains("Retry"),
                "{text}"
            );
        }
        assert_eq!(
            say(9, EndedEarly::No, ""),
            HandlerError::retry("killed by SIGKILL")
        );
        assert_eq!(
            say(11, EndedEarly::No, "oops"),
            HandlerError::retry("killed by SIGSEGV: oops")
        );
        assert!(format!("{:?}", say(15, EndedEarly::Yes, "")).contains("before it was done"));
    }
}
