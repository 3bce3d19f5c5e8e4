//! Turns the schema files of `schema/` into Rust: see `codegen/`. What it writes is included by
//! `src/kafka/messages.rs` and `src/kafka/error_code.rs`.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

#[path = "codegen/emit.rs"]
mod emit;
#[path = "codegen/emit_struct.rs"]
mod emit_struct;
#[path = "codegen/fields.rs"]
mod fields;
#[path = "codegen/model.rs"]
mod model;
#[path = "codegen/parse.rs"]
mod parse;

fn main() -> ExitCode {
    for path in ["build.rs", "codegen", "schema"] {
        println!("cargo::rerun-if-changed={path}");
    }
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let schema = parse::read_schema(Path::new("schema"))?;
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    for (name, text) in
        [("messages.rs", emit::messages(&schema)), ("error_code.rs", emit::error_codes(&schema))]
    {
        let path = Path::new(&folder).join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
