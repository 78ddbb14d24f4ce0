//! How large a volume is called: never less than was asked for, because such a claim never binds.

use stowage_csi_proto::csi::v1::CapacityRange;

/// Why a range cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CapacityError {
    #[error(
        "the capacity range {required} to {limit} bytes is none; give a limit that is not below the request"
    )]
    NoRange { required: i64, limit: i64 },
    #[error(
        "the artifact has {size} bytes and the claim allows at most {limit}; raise the claim's storage limit or leave it out"
    )]
    TooLarge { size: i64, limit: i64 },
}

/// The bytes that a claim asks for; zero means no bound on that side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    required: i64,
    limit: i64,
}

impl Bounds {
    pub(crate) fn parse(range: Option<&CapacityRange>) -> Result<Self, CapacityError> {
        let CapacityRange { required_bytes: required, limit_bytes: limit } =
            range.copied().unwrap_or_default();
        if required < 0 || limit < 0 || (limit > 0 && required > limit) {
            return Err(CapacityError::NoRange { required, limit });
        }
        Ok(Self { required, limit })
    }

    /// The capacity of a new volume with `size` bytes.
    pub(crate) fn capacity(self, size: u64) -> Result<i64, CapacityError> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if self.limit > 0 && size > self.limit {
            return Err(CapacityError::TooLarge { size, limit: self.limit });
        }
        Ok(size.max(self.required))
    }

    /// Whether a volume that is there already is what is asked for.
    pub(crate) fn allow(self, capacity: i64) -> bool {
        capacity >= self.required && (self.limit == 0 || capacity <= self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(required: i64, limit: i64) -> Result<Bounds, CapacityError> {
        Bounds::parse(Some(&CapacityRange { required_bytes: required, limit_bytes: limit }))
    }

    #[test]
    fn the_capacity_is_the_larger_of_request_and_artifact() {
        for (required, limit, size, capacity) in [
            (0, 0, 7, Some(7)),
            (10, 0, 7, Some(10)),
            (5, 7, 7, Some(7)),
            (5, 6, 7, None),
            (0, 7, 7, Some(7)),
        ] {
            let found = bounds(required, limit).unwrap().capacity(size);
            assert_eq!(found.ok(), capacity, "{required} {limit} {size}");
        }
        assert_eq!(Bounds::parse(None).unwrap().capacity(7), Ok(7));
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for (required, limit) in [(-1, 0), (0, -1), (8, 7)] {
            assert_eq!(bounds(required, limit), Err(CapacityError::NoRange { required, limit }));
        }
    }

    #[test]
    fn a_volume_fits_only_the_ranges_that_hold_its_capacity() {
        for (required, limit, fits) in [(0, 0, true), (10, 10, true), (11, 0, false), (0, 9, false)] {
            assert_eq!(bounds(required, limit).unwrap().allow(10), fits, "{required} {limit}");
        }
    }
}
