//! Real votes: official results taken apart into ballots, and files of real ballots.
