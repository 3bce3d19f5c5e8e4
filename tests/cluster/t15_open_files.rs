//! Limits on how many files a process may have open.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ottla_tests::process::{DevProcess, ottla_binary, printed};

/// A program that runs `ottla` with limits, as a shell sets them.
fn with_limits(folder: &Path, limits: &str) -> PathBuf {
    let program = folder.join("ottla-with-limits");
    let ottla = ottla_binary().unwrap();
    let script = format!("#!/bin/sh\n{limits}\nexec {} \"$@\"\n", ottla.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn a_limit_that_may_be_raised_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let program = with_limits(dir.path(), "ulimit -Sn 200");
    let dev = DevProcess::start_by(&program, &dir.path().join("data"), &[]).unwrap();
    let ottla =
        |arguments: &[&str], input: &str| printed(&dev.ottla(arguments, input).unwrap()).unwrap();
    ottla(&["topics", "create", "many", "-p", "300"], "");
    let described = ottla(&["topics", "describe", "many", "--json"], "");
    assert_eq!(described.matches("\"leader\":1").count(), 300, "{described}");
    ottla(&["produce", "many", "-p", "299"], "there is room\n");
}

#[test]
fn too_many_open_files_cost_no_log_directory() {
    let dir = tempfile::tempdir().unwrap();
    let program = with_limits(dir.path(), "ulimit -n 300");
    let dev = DevProcess::start_by(&program, &dir.path().join("data"), &[]).unwrap();
    let ottla = |arguments: &[&str], input: &str| dev.ottla(arguments, input).unwrap();
    printed(&ottla(&["topics", "create", "kept", "-p", "1"], "")).unwrap();
    printed(&ottla(&["produce", "kept"], "before\n")).unwrap();
    // It may be made as far as there are files, and is not of use then.
    ottla(&["topics", "create", "greedy", "-p", "200"], "");
    ottla(&["topics", "delete", "greedy"], "");
    printed(&ottla(&["produce", "kept"], "after\n")).unwrap();
    printed(&ottla(&["topics", "create", "new", "-p", "1"], "")).unwrap();
    printed(&ottla(&["produce", "new"], "as ever\n")).unwrap();
    let kept = printed(&ottla(&["consume", "kept", "-f", "-e"], "")).unwrap();
    assert_eq!(kept, "before\nafter\n");
}
