//! Run supervision, admission, recovery, review, landing.
