"""Results → plotly figures. They know no model and no page: arrays in, a Figure out."""
