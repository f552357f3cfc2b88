//! Migrations are embedded by a macro that Cargo cannot look into.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
