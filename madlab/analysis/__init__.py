"""What trained adapters show, what they cost, how small they can be made, and why a training run disappoints.

modulations  what trained modulations have in common, and how sparse they are
nearest      how near each method could come to given filters
allocation   a modulation taken apart, and how many bits each of its numbers gets
cutting      a domain cut to a rank for each layer, within a budget of bytes
counting     parameters from the shapes of convolutions
rate_trials  recorded runs at wrong rates and capacities, and what their numbers say
diagnosis    why a run disappoints, from its folder
bench        what things cost on this machine
"""
