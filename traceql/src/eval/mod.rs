mod arithmetic;
mod error;
pub(crate) use arithmetic::arithmetic;
pub use error::EvalError;
