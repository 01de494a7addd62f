"""Pre-flights: what the first step on each pair would do, beside what training then did."""
