//! Volumes over a real store, a real registry client and real mounts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod indexes;

mod mounts {
    mod calls;
    mod families;
    mod grants;
    mod life;
    mod restart;
    mod tags;
    mod tars;
}
