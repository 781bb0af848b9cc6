"""What makes a step fast: mapped rows, touched rows, attention over rows of several lengths, dropout masks."""
