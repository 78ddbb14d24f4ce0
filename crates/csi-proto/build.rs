//! Compiles `proto/` with protox, so that no protoc is needed on the machine.

use std::error::Error;
use std::path::Path;

use protox::prost_reflect::{DescriptorPool, Value};

const PROTO_DIR: &str = "../../proto";
const FILES: [&str; 2] = ["csi.proto", "pluginregistration.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={}", Path::new(PROTO_DIR).join(file).display());
    }
    let mut compiler = protox::Compiler::new([PROTO_DIR])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let secretive = messages_with_secrets(&compiler.descriptor_pool())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .skip_debug(secretive)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Every message with a field marked `csi_secret`: these get no `Debug`, so that no log line,
/// error or panic can print a secret by accident; a `{:?}` of one does not compile.
fn messages_with_secrets(pool: &DescriptorPool) -> Result<Vec<String>, Box<dyn Error>> {
    let marker = pool.get_extension_by_name("csi.v1.csi_secret").ok_or("csi.proto lost csi_secret")?;
    let names: Vec<String> = pool
        .all_messages()
        .filter(|message| {
            message.fields().any(|field| *field.options().get_extension(&marker) == Value::Bool(true))
        })
        .map(|message| format!(".{}", message.full_name()))
        .collect();
    if names.is_empty() {
        return Err("csi.proto marks no field as csi_secret".into());
    }
    Ok(names)
}
