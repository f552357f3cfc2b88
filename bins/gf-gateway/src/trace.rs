//! The trace that a push belongs to, as W3C Trace Context has it.

/// The name of the header, on every surface and in the task.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The trace around a request, if it is part of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Option<String>);

impl Trace {
    /// The trace that a request's `traceparent` names. One that is not well formed counts as none, as the
    /// specification wants it.
    pub(crate) fn of(traceparent: Option<&str>) -> Self {
        Self(
            traceparent
                .filter(|text| is_well_formed(text))
                .map(str::to_owned),
        )
    }

    /// What to add to the headers of a task that has these: nothing when its push says itself where it belongs.
    pub(crate) fn header<'a>(
        &self,
        mut names: impl Iterator<Item = &'a String>,
    ) -> Option<(&'static str, String)> {
        let own = names.any(|name| name.eq_ignore_ascii_case(TRACEPARENT));
        self.0
            .clone()
            .filter(|_| !own)
            .map(|value| (TRACEPARENT, value))
    }
}

/// Whether it is `version-trace-parent-flags` in hexadecimal. Versions to come may have more behind it.
fn is_well_formed(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags, ref rest @ ..] = parts[..] else {
        return false;
    };
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2)
        && (rest.is_empty() || version != "00")
        && text.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_is_well_formed_counts() {
        assert!(is_well_formed(GOOD));
        assert!(is_well_formed(&format!("cc{}-more", &GOOD[2..])));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            &format!("{GOOD}-more"),
            &format!(" {GOOD}"),
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn a_push_that_says_its_own_keeps_it() {
        let trace = Trace::of(Some(GOOD));
        let names = |name: &str| [name.to_owned()];
        assert_eq!(
            trace.header(names("other").iter()),
            Some((TRACEPARENT, GOOD.to_owned()))
        );
        assert_eq!(trace.header(names("Traceparent").iter()), None);
        assert_eq!(Trace::of(Some("nonsense")).header([].iter()), None);
    }
}
