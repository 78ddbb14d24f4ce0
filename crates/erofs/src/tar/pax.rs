//! The records of pax headers that say something about a file's place or metadata.

use crate::index::Time;

/// What pax headers say about one property.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Setting<T> {
    /// Nothing.
    #[default]
    Absent,
    /// That the header block counts, whatever a global pax header said.
    Reset,
    /// This value.
    Value(T),
}

impl<T> Setting<T> {
    /// The value that counts, when `self` belongs to one member and `global` to all that follow.
    fn over<'a>(&'a self, global: &'a Self) -> Option<&'a T> {
        match (self, global) {
            (Self::Value(value), _) | (Self::Absent, Self::Value(value)) => Some(value),
            _ => None,
        }
    }
}

/// What one pax header, or several, have said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    path: Setting<Vec<u8>>,
    link: Setting<Vec<u8>>,
    size: Setting<u64>,
    mtime: Setting<Time>,
    uid: Setting<u32>,
    gid: Setting<u32>,
    sparse: bool,
}

/// What counts for one member.
pub(super) struct Effective<'a> {
    pub(super) path: Option<&'a Vec<u8>>,
    pub(super) link: Option<&'a Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) sparse: bool,
}

impl Records {
    /// What counts when these records belong to a member and `global` to all.
    pub(super) fn over<'a>(&'a self, global: &'a Self) -> Effective<'a> {
        Effective {
            path: self.path.over(&global.path),
            link: self.link.over(&global.link),
            size: self.size.over(&global.size).copied(),
            mtime: self.mtime.over(&global.mtime).copied(),
            uid: self.uid.over(&global.uid).copied(),
            gid: self.gid.over(&global.gid).copied(),
            sparse: self.sparse || global.sparse,
        }
    }

    /// Reads the data of a pax header: lines of `<length> <key>=<value>\n`. Unknown keys are skipped.
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<(), &'static str> {
        // Some writers fill the header with zeros.
        while data.iter().any(|byte| *byte != 0) {
            let space =
                data.iter().take(20).position(|byte| *byte == b' ').ok_or("has a line without a length")?;
            let length = decimal(&data[..space]).and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or("has a line whose length is not a number")?;
            let line =
                data.get(space + 1..length).ok_or("has a line that is longer or shorter than it says")?;
            let line = line.strip_suffix(b"\n").ok_or("has a line that does not end where it says")?;
            let equals = line.iter().position(|byte| *byte == b'=').ok_or("has a line without `=`")?;
            self.set(&line[..equals], &line[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = setting(value, |value| Some(value.to_vec()), "")?,
            b"linkpath" => self.link = setting(value, |value| Some(value.to_vec()), "")?,
            b"size" => self.size = setting(value, decimal, "has a size that is not a number")?,
            b"mtime" => self.mtime = setting(value, time, "has a time that is not one")?,
            b"uid" => self.uid = setting(value, id, "has a user that is not a number below 2^32")?,
            b"gid" => self.gid = setting(value, id, "has a group that is not a number below 2^32")?,
            _ if key.starts_with(b"GNU.sparse.") => {
                self.sparse = true;
                if key == b"GNU.sparse.name" {
                    self.path = setting(value, |value| Some(value.to_vec()), "")?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn setting<T>(
    value: &[u8],
    parse: impl FnOnce(&[u8]) -> Option<T>,
    problem: &'static str,
) -> Result<Setting<T>, &'static str> {
    if value.is_empty() {
        return Ok(Setting::Reset);
    }
    parse(value).map(Setting::Value).ok_or(problem)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn id(text: &[u8]) -> Option<u32> {
    decimal(text).and_then(|id| u32::try_from(id).ok())
}

/// Seconds with an optional fraction, of which nine digits count. Before 1970 it is negative.
fn time(text: &[u8]) -> Option<Time> {
    const SECOND: u32 = 1_000_000_000;
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..dot])?).ok()?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    let mut nanos = 0;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanos = nanos * 10 + digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
    }
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: SECOND - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::{Records, time};
    use crate::index::Time;

    #[test]
    fn records_are_read_and_reset() {
        let mut global = Records::default();
        global.read(b"11 uid=1000\n11 path=glb\n").unwrap_err();
        global.read(b"12 uid=1000\n13 path=glob\n").unwrap();
        let mut own = Records::default();
        own.read(b"7 uid=\n17 path=own\nline\n21 size=99999999999\n20 comment=whatever\n\0\0").unwrap_err();
        own = Records::default();
        own.read(b"7 uid=\n17 path=own\nline\n20 size=99999999999\n20 comment=whatever\n\0\0").unwrap();
        let counts = own.over(&global);
        assert_eq!(counts.path.unwrap(), b"own\nline");
        assert_eq!((counts.uid, counts.gid, counts.size), (None, None, Some(99_999_999_999)));
        let empty = Records::default();
        assert_eq!(empty.over(&global).uid, Some(1000));
    }

    #[test]
    fn broken_records_are_refused() {
        for data in [
            &b"path=x\n"[..],
            b"7 path=x\n",
            b"99 path=x\n",
            b"x9 path=x\n",
            b"0 path=x\n",
            b"2 \n",
            b"9 pathxx\n",
            b"99999999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"14 uid=4294967296\n",
            b"9 uid=-1\n",
            b"12 size=-10\n",
            b"29 size=18446744073709551616\n",
        ] {
            assert!(Records::default().read(data).is_err(), "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn times_before_and_after_1970() {
        let at = |seconds, nanos| Some(Time { seconds, nanos });
        assert_eq!(time(b"1350244992.023960108"), at(1_350_244_992, 23_960_108));
        assert_eq!(time(b"1350244992.0239601089999"), at(1_350_244_992, 23_960_108));
        assert_eq!(time(b"7"), at(7, 0));
        assert_eq!(time(b"7."), at(7, 0));
        assert_eq!(time(b"-1.5"), at(-2, 500_000_000));
        assert_eq!(time(b"-1"), at(-1, 0));
        for bad in [&b""[..], b"-", b".5", b"1e9", b"1.x", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }
}
