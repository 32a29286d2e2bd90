//! The gateway: conducts the four stages and streams a picture's progress.
