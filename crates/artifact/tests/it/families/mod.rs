//! Manifest in, plan out, family by family: what producers write today and what volumes are made of it.

mod attestation;
mod choosing;
mod codecs;
mod docker_ai;
mod errors;
mod filesystems;
mod helm;
mod hostile_names;
mod image;
mod kitops;
mod members;
mod modelpack;
mod naming;
mod ollama;
mod oras;
mod raw_layer;
mod wasm;
