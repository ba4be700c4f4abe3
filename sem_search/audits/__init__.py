"""Questions put to a study: what else than the material could the network have learnt?"""
