"""Making a model forget one skill: key boxes, Neuron Adjust, selective pruning, TARS; fitted and measured."""
