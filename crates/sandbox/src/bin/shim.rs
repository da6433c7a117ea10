//! The shim role as a program of its own, so that this crate's tests and benchmarks need no other binary.
//! The product runs the same role as `offshoot __shim`.

fn main() -> std::process::ExitCode {
    offshoot_sandbox::shim_main()
}
