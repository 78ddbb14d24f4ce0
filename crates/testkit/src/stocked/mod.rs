//! A registry for a cluster under test: it stocks itself with sample artifacts, so that nobody has to push, and opens
//! its books over HTTP, so that a test far away can compare what was served with what was asked for.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | `ok` as soon as everything is stocked |
//! | `/samples` | the artifacts: repository, tag, digest, and each file with its digest and size |
//! | `/traffic` | requests so far, and the bytes served of each blob and manifest |

mod books;
mod sample;

pub use books::serve_books;
pub use sample::{Family, ParseSampleError, Sample, Stocked, StockedFile};
