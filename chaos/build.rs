//! Says how this crate is optimised, and exports the symbols that make a simulation's randomness follow from its seed
//! (src/sim/entropy/symbols.rs): some crates look `getrandom` up by name at run time.

const SYMBOLS: [&str; 3] = ["getrandom", "getentropy", "syscall"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Times that a tool tells mean little without it.
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=MUX_CHAOS_OPT_LEVEL={level}");
    for symbol in SYMBOLS {
        println!("cargo::rustc-link-arg-bin=simulate=-Wl,--export-dynamic-symbol={symbol}");
        println!("cargo::rustc-link-arg-bin=mutants=-Wl,--export-dynamic-symbol={symbol}");
        println!("cargo::rustc-link-arg-tests=-Wl,--export-dynamic-symbol={symbol}");
    }
}
