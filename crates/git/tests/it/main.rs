//! Against the real git: whole ways from the user's repository through a workspace back into it, odd repositories,
//! hostile results, and processes killed half way.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod landing;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod way;
#[cfg(test)]
mod work;
#[cfg(test)]
mod worktrees;
